"use strict";
/* The results page. Each line of data.js calls begin(), about(), layout(), row(), done() or next(). While test.py runs, the page loads
   the newest file again every few seconds as a script, since a page from file:// may not fetch. metrics.js, written by
   scripts/evaluate.py, calls metrics(). With --compare the files of other runs are loaded too. Only visible rows are in the document. */
const main = { path: "", rows: [], known: new Map(), base: 0, file: 0 }, runs = [main];
const state = { q: "", sort: "", up: false, size: 0, row: null }; // size 0: as there is room; up: the other way round
const seen = new Map(), heights = new Map(); // rows in the document -> elements and viewers; a layout's images -> its row's height
let reading = main, order = [], tops = [0], open = null, hash = null, place = null;

// ---- the lines of data.js and metrics.js ----

function begin(id) {
  if (reading === main && main.id && main.id !== id) location.reload(); // another run has started in this folder
  Object.assign(reading, { id, at: reading.base });
}

function about(value) {
  if (reading.about) return;
  reading.about = value;
  reading.label ||= value.label;
  if (reading !== main) return;
  for (const run of value.runs || []) runs.push({ ...run, rows: [], known: new Map(), base: 0, file: 0 });
}

function row(name, file, sources) { // sources: addresses of images that are elsewhere
  if (reading.at++ < reading.rows.length) return;
  const one = { name, file, sources, layout: reading.layout, found: name.toLowerCase(), at: reading.rows.length };
  reading.rows.push(one);
  reading.known.set(name, one);
}

const layout = (value) => (reading.layout = { ...value, key: value.images.map(([, , width, height]) => width / height).join() });
const next = () => (reading.more = true);
const done = (value) => (reading.done = value);

function metrics(value) {
  const rows = Object.values(value.values);
  value.order = value.order.filter((name) => rows.some((one) => Number.isFinite(one[name]))); // others were not measured
  reading.metrics = value;
  if (reading === main && value.scores) showScores(value.scores);
  if (main.about && main.about.sorted && !location.hash) state.sort = value.order[0] || "";
}

function showScores(scores) {
  const cells = (tag, texts) => make("tr", null, {}, ...texts.map((text) => make(tag, null, {}, text)));
  const table = ([head, ...lines]) => make("table", null, {}, cells("th", head), ...lines.map((line) => cells("td", line)));
  $("scores").hidden = false;
  $("scores").open = innerWidth > 700;
  $("scores").querySelector("span").textContent = scores[0].tables[0].slice(1).map(([name, value]) => `${name} ${value}`).join(" · ");
  $("scores").lastChild.replaceChildren(...scores.map(({ title, tables, notes }) => make("section", null, {}, make("h2", null, { hidden: scores.length < 2 }, title),
    ...tables.filter((lines) => lines.length).map(table), ...notes.map((note) => make("p", null, { className: "note" }, note)))));
}

async function read(one) {
  reading = one;
  do {
    one.more = false;
    one.lost = !(await loadScript(one.path + dataFile(one.file))) && !one.rows.length;
    if (one.more) Object.assign(one, { base: one.rows.length, file: one.file + 1 });
  } while (one.more);
  await loadScript(`${one.path}metrics.js`); // none is no error
}

async function load() {
  for (let k = 0; k < runs.length; k++) if (!runs[k].done) await read(runs[k]); // the first one's `about` names the others
  update();
  if (!main.done && !main.lost) setTimeout(load, document.hidden ? 20000 : 3000);
}

// ---- rows ----

const idOf = (one) => {
  try {
    return decodeURIComponent(one.file);
  } catch {
    return one.file; // a name that is not UTF-8
  }
};

function metricOf(sort) { // psnr: of these results; psnr@RUN: of another run
  const [name, label] = sort.split(/@(.*)/s), run = label ? runs.find((one) => one.label === label) : main;
  return run && run.metrics && run.metrics.order.includes(name) ? { run, name, lower: run.metrics.lower[name] } : null;
}

const twin = (run, one) => (run === main ? one : run.known.get(one.name)); // the same image in another run

function valueOf(one, { run, name }) {
  const other = twin(run, one), values = other && run.metrics.values[idOf(other)];
  return values && Number.isFinite(values[name]) ? values[name] : null;
}

const fourDigits = (value) => (value === null ? "–" : String(+value.toPrecision(4)));

function itemOf(run, one, k, label) {
  const [, file, width, height] = one.layout.images[k], { thumbs } = one.layout;
  const item = { label, role: roleOf(one.layout.images[k][0], one.layout.images.map(([name]) => name), main.about.paired), src: one.sources ? one.sources[k] : `${run.path}images/${one.file}_${file}.png`, ratio: width / height, width };
  if (thumbs) {
    const sum = (widths) => widths.reduce((a, b) => a + b, 0);
    item.thumb = [`${run.path}thumbs/${one.file}.jpg`, sum(thumbs.slice(0, k)), thumbs[k], sum(thumbs)];
  }
  return item;
}

function itemsOf(one) {
  const metric = metricOf(state.sort) || (main.metrics && metricOf(main.metrics.order[0] || "")), items = [];
  one.layout.images.forEach(([label, , width, height], k) => {
    const output = runs.length > 1 && !label.startsWith("real");
    for (const run of output ? runs : [main]) {
      const other = twin(run, one), j = other ? other.layout.images.findIndex((image) => image[0] === label) : -1;
      const shown = output ? `${run.label}: ${label}` : label;
      if (j < 0) items.push({ label: shown, ratio: width / height, missing: `${run.label} has no ${label} of this image.` });
      else items.push(itemOf(run, other, j, shown));
      if (output && metric && run.metrics && label.startsWith("fake")) items.at(-1).note = `${metric.name} ${fourDigits(valueOf(one, { run, name: metric.name }))}`;
    }
  });
  return items;
}

function labelsOf() {
  const examples = new Map(main.rows.map((one) => [one.layout, one]));
  return [...new Set([...examples.values()].flatMap((one) => itemsOf(one).map((item) => item.label)))];
}

// ---- which rows, and where ----

function update() {
  document.body.classList.toggle("busy", !main.done);
  $("note").textContent = main.done && !main.rows.length && !main.metrics ? "There are no images." : problems();
  if (!main.rows.length) return;
  const labels = labelsOf();
  bar.labels(labels);
  view.chosen &&= view.pair.every((label) => labels.includes(label));
  if (!view.chosen) view.set({ pair: usualPair(labels, main.about.paired) });
  const sorts = [["", "dataset order"], ["name", "name, A to Z"], ["-name", "name, Z to A"]];
  for (const one of runs) {
    for (const name of one.metrics ? one.metrics.order : []) {
      const sort = one === main ? name : `${name}@${one.label}`, text = runs.length > 1 ? `${name} of ${one.label}` : name;
      sorts.push([sort, `${text}, worst first`], [`-${sort}`, `${text}, best first`]);
    }
  }
  if (sorts.length !== $("sort").length) $("sort").replaceChildren(...sorts.map(([value, text]) => make("option", null, { value }, text)));
  arrange();
  if (state.row !== null && !open) show(main.rows.find((one) => one.name === state.row));
}

const problems = () => runs.filter((one) => one.lost).map((one) => `${one.path}data.js can't be read.`).join(" ");

function arrange() {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean), metric = metricOf(state.sort);
  const rows = main.rows.filter((one) => words.every((word) => one.found.includes(word)));
  if (metric) {
    const sign = (metric.lower ? -1 : 1) * (state.up ? -1 : 1);
    const keys = new Map(rows.map((one) => [one, valueOf(one, metric)])), last = (value) => (value === null ? Infinity : sign * value);
    rows.sort((a, b) => (last(keys.get(a)) - last(keys.get(b)) || a.at - b.at) || 0);
  } else {
    if (state.sort === "name") rows.sort((a, b) => compare(a.name, b.name));
    if (state.up) rows.reverse();
  }
  order = rows;
  const [some, all] = [rows, main.rows].map((list) => list.length.toLocaleString("en"));
  $("shown").textContent = some === all ? `${all} images` : `${some} of ${all} images`;
  if ($("filter").value !== state.q) $("filter").value = state.q; // else the cursor would move
  $("sort").value = (state.up ? "-" : "") + state.sort;
  if (main.rows.length) $("note").textContent = rows.length ? problems() : `No image here has “${state.q}” in its name.`;
  document.body.classList.toggle("sized", Boolean(state.size || main.about.width));
  $("rows").style.setProperty("--size", `${state.size || main.about.width}px`);
  settle();
  draw();
}

const { compare } = new Intl.Collator("en", { numeric: true });

// Rows follow each other in the document, and CSS alone sizes them. Of the others only the heights are known, or guessed.

function settle() { // the first visible row stays where it is
  const usual = [...heights.values()].pop() || 400;
  tops = new Float64Array(order.length + 1);
  order.forEach((one, k) => (tops[k + 1] = tops[k] + (heights.get(one.layout.key) || usual)));
  $("rows").style.minHeight = `${tops.at(-1)}px`;
  const at = place && scrollY > 0 ? order.indexOf(place.one) : -1;
  if (at >= 0) scrollToRow(at, place.into);
}

function learn() { // the heights of the rows in the document; returns whether one has changed
  const before = [...heights].join();
  for (const [one, { element }] of seen) heights.set(one.layout.key, Math.round(10 * element.getBoundingClientRect().height) / 10);
  return before !== [...heights].join();
}

const offset = () => ([$("tools"), $("bar")].find((node) => node.offsetHeight && getComputedStyle(node).position === "sticky") || {}).offsetHeight || 0;
const scrolled = () => -$("rows").getBoundingClientRect().top; // pixels of the document above the window

function first(y = scrolled() + offset()) { // the row at a height of the list
  return clamp(tops.findLastIndex((top) => top <= y), 0, Math.max(0, order.length - 1));
}

function scrollToRow(k, into = 0) {
  const top = $("rows").getBoundingClientRect().top + scrollY;
  scrollTo(0, k || into ? top + tops[k] + into - offset() : 0);
}

function draw() {
  if (open) return;
  if (learn()) settle(); // the window's size, or the mode, has changed
  let wanted;
  for (let tries = 0; tries < 4; tries++) {
    const y = scrolled(), from = first(y - 300), at = first();
    place = order[at] ? { one: order[at], into: y + offset() - tops[at] } : null;
    wanted = new Set(order.slice(from, first(y + innerHeight + 300) + 1));
    put(wanted, from);
    if (!learn()) break;
    settle();
  }
  if (seen.size) $("size").value = state.size || $("rows").querySelector("figure").offsetWidth;
  clearTimeout(draw.timer);
  draw.timer = setTimeout(() => { // full images are loaded once scrolling stops
    for (const one of wanted) if (seen.has(one)) seen.get(one).viewer.load();
  }, 120);
}

function put(wanted, from) { // these rows into the document, and no others
  for (const [one, { element, viewer }] of seen) {
    if (!wanted.has(one)) viewer.remove(), element.remove(), seen.delete(one);
  }
  let k = from, cursor = $("rows").firstChild;
  for (const one of wanted) {
    if (!seen.has(one)) seen.set(one, build(one));
    const { element } = seen.get(one);
    if (element === cursor) cursor = cursor.nextSibling;
    else $("rows").insertBefore(element, cursor);
    element.setAttribute("aria-posinset", ++k);
    element.setAttribute("aria-setsize", order.length);
  }
  $("rows").style.paddingTop = `${tops[from]}px`;
}

function link(one) {
  const cut = one.name.lastIndexOf("/") + 1, anchor = make("a", null, { href: `#row=${encodeURIComponent(one.name)}`, title: one.name });
  anchor.onclick = (event) => event.ctrlKey || event.metaKey || event.shiftKey || (event.preventDefault(), show(one));
  anchor.append(make("span", null, {}, one.name.slice(0, cut)), make("b", null, {}, one.name.slice(cut)));
  return anchor;
}

function valuesOf(one) {
  const box = make("span", null, { className: "values" });
  if (main.metrics && runs.length === 1) {
    for (const name of main.metrics.order) {
      make("span", box, { className: name === state.sort ? "sorted" : "" }, `${name} `, make("b", null, {}, fourDigits(valueOf(one, { run: main, name }))));
    }
  }
  return box;
}

function build(one) {
  const element = make("article", null, { tabIndex: 0, "aria-label": one.name }), header = make("header", element);
  header.append(make("h2", null, {}, link(one)), valuesOf(one));
  const viewer = new Viewer(make("div", element), view, { open: () => show(one) });
  element.addEventListener("keydown", (event) => event.key === "Enter" && event.target === element && show(one));
  viewer.show(itemsOf(one));
  return { element, viewer };
}

function rebuild() { // the rows in the document
  for (const { element, viewer } of seen.values()) viewer.remove(), element.remove();
  seen.clear();
  arrange();
}

// ---- one row, large ----

function show(one) {
  if (!one) return;
  if (!open) {
    open = { viewer: new Viewer(make("div", make("div", $("large"), { className: "stage" })), view, { eager: true, alone: true, wheel: true }), from: scrollY };
    document.body.classList.add("opened");
  }
  open.one = one;
  const at = order.indexOf(one), box = make("header", null);
  const button = (text, name, act) => make("button", box, { title: name, "aria-label": name, onclick: act }, text);
  button("←", "previous (k)", () => go(-1)).disabled = at === 0;
  button("→", "next (j)", () => go(1)).disabled = at === order.length - 1;
  box.append(make("h2", null, {}, link(one)), make("span", null, { className: "count" }, at < 0 ? "" : `${at + 1} of ${order.length}`), valuesOf(one));
  button("✕", "close (Escape)", hide).classList.add("close");
  if ($("large").querySelector("header")) $("large").querySelector("header").remove();
  $("large").prepend(box);
  open.viewer.show(itemsOf(one));
  const opens = state.row === null;
  state.row = one.name;
  if (!$("large").contains(document.activeElement)) $("large").focus();
  scrollTo(0, 0);
  remember(opens); // the browser's Back closes it
}

function hide() {
  if (!open) return false;
  open.viewer.remove();
  const { one, from } = open;
  open = state.row = null;
  $("large").replaceChildren();
  document.body.classList.remove("opened");
  scrollTo(0, from);
  draw();
  if (!seen.has(one) && order.includes(one)) scrollToRow(order.indexOf(one)), draw();
  if (seen.has(one)) seen.get(one).element.focus({ preventScroll: true });
  return remember();
}

function go(by) {
  const at = open ? order.indexOf(open.one) : order.findIndex((one) => seen.has(one) && seen.get(one).element === document.activeElement);
  const to = order[at < 0 && !open ? first() : at + by];
  if (!to) return;
  if (open) return show(to);
  scrollToRow(order.indexOf(to));
  draw();
  seen.get(to).element.focus({ preventScroll: true });
}

// ---- the address ----

function change(changes) {
  Object.assign(state, changes);
  rebuild();
  if (!("size" in changes)) scrollToRow(0), draw();
  remember();
}

function remember(back = false) { // back: the browser's Back undoes this step
  const params = new URLSearchParams();
  for (const key of ["q", "sort", "row", "size"]) if (state[key]) params.set(key, state[key]);
  if (state.up) params.set("up", 1);
  view.params(params);
  clearTimeout(remember.timer);
  remember.back ||= back;
  remember.timer = setTimeout(() => {
    hash = `#${params.size ? params : "-"}`; // a bare # would scroll to the top
    if (hash !== (location.hash || "#-")) remember.back ? location.assign(hash) : location.replace(hash);
    remember.back = false;
  }, 200);
}

function restore() {
  hash = location.hash;
  const params = new URLSearchParams(hash.slice(1));
  Object.assign(state, { q: params.get("q") || "", sort: params.get("sort") || "", up: params.has("up"), row: params.get("row") });
  state.size = params.has("size") ? clamp(Number(params.get("size")) || 256, 48, 1024) : 0;
  view.restore(params);
}

// ---- buttons ----

const soon = (act, frame = 0) => () => (cancelAnimationFrame(frame), (frame = requestAnimationFrame(act)));

const later = soon(draw);
const view = new View(() => {
  later(); // two images may have become one
  for (const { viewer } of seen.values()) if (viewer.wanted) viewer.load();
  remember();
});
const bar = new Toolbar($("bar"), view, [
  ["Enter", "enlarge a row; Escape: back to all rows", () => false],
  ["Escape", "", hide],
  ["j k", "next and previous row", (key) => go(key === "j" ? 1 : -1)],
  ["ArrowRight", "", () => (open && view.zoom === 1 ? go(1) : false)],
  ["ArrowLeft", "", () => (open && view.zoom === 1 ? go(-1) : false)],
  ["/", "find by name", () => (hide(), $("filter").focus(), $("filter").select())],
]);
$("find").onsubmit = () => false;
$("filter").oninput = () => change({ q: $("filter").value });
$("sort").onchange = () => change({ sort: $("sort").value.replace(/^-/, ""), up: $("sort").value.startsWith("-") });
$("size").oninput = () => change({ size: Number($("size").value) });
addEventListener("scroll", later, { passive: true });
new ResizeObserver(later).observe($("rows"));
addEventListener("hashchange", () => {
  if ((location.hash || "#-") === hash) return;
  const before = open && open.one, kept = Object.fromEntries(Object.keys(START).map((name) => [name, view[name]])), { chosen } = view;
  restore();
  if (before && state.row === null) Object.assign(view, { chosen }).set(kept); // Back closes a row and changes nothing else
  rebuild();
  if (before && state.row !== before.name) hide();
  if (state.row) show(main.rows.find((one) => one.name === state.row));
});
restore();
document.addEventListener("DOMContentLoaded", load); // after lines of data in the page itself
