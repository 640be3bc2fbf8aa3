"use strict";
/* The index of experiments: show() is called once, with what scripts/pages.py found. What is chosen stands in the address, so that
   a reload, or a link, shows the same; two that are compared are a place of their own in the browser's history. */
const USUAL = { q: "", sort: "-saved", metric: "", pair: "", open: "" }, state = {};
const COLOURS = ["var(--accent)", "#d98c00"]; // of two that are compared
const GAP = 8, CAPTION = 26, LEAST = 128; // pixels
const $ = (id) => document.getElementById(id), none = (value) => value === undefined || value === null;
const digits = (value) => (none(value) ? "–" : String(+value.toPrecision(4)));
const union = (lists) => [...new Set(lists.flat())], heads = () => [...document.querySelectorAll("thead button")];
let runs, lower, shown = null, waiting = 0;

// ---- rows ----

function row(run) {
  const line = (run.line = make("tr")), cell = (name, ...children) => make("td", line, { className: name }, ...children);
  run.tick = make("input", cell("tick"), { type: "checkbox", title: "compare", "aria-label": `compare ${run.name}` });
  run.tick.onchange = () => choose(run);
  const images = make("div", cell("images")), about = cell("about", make("a", null, { href: run.href }, run.name), make("small", null, {}, run.model));
  for (const [label, href, , , thumb] of run.images) {
    if (thumb) make("img", make("a", images, { href, title: `${label}, ${run.shown}` }), { src: thumb, alt: `${label} of ${run.name}` });
  }
  const options = make("p", about);
  for (const [name, value] of run.told) make("span", options, { title: `${name} ${value}` }, `${name} `, make("b", null, {}, value));
  for (const note of run.notes) make("p", about, { className: "bad" }, note);
  const done = cell("done");
  if (!none(run.done) || run.total) done.append(digits(run.done), make("small", null, {}, run.total ? `of ${run.total}` : ""));
  if (run.total) make("progress", done, { max: run.total, value: run.done || 0, "aria-label": "epochs done" });
  run.value = cell("best");
  const tests = cell("test");
  run.nodes = run.results.map(([name, href, , evaluation]) => {
    const place = make("p", tests, {}, make("a", null, { href }, name), " "), value = make("b", place);
    if (evaluation) place.append(" ", make("a", null, { href: evaluation, className: "small", "aria-label": `evaluation of ${name}` }, "evaluation"));
    return value;
  });
  for (const time of [run.begun, run.saved]) cell("day", ...(time ? time.split(" ") : []).map((part, k) => make(k ? "small" : "span", null, {}, part)));
  run.text = line.textContent.toLowerCase();
}

function draw() {
  const key = state.sort.replace("-", ""), way = key === state.sort ? 1 : -1, words = state.q.toLowerCase().split(/\s+/), pair = chosen();
  for (const node of document.querySelectorAll(".metric")) node.textContent = state.metric && `\u00a0· ${state.metric}`;
  const names = heads().map((head) => head.textContent);
  for (const run of runs) {
    const [best, epoch] = run.best[state.metric] || [], scores = run.results.map((one) => one[2][state.metric]);
    run.value.replaceChildren(...(none(best) ? [] : [digits(best), make("small", null, {}, `epoch ${epoch}`)]));
    run.nodes.forEach((node, k) => (node.textContent = none(scores[k]) ? "" : digits(scores[k])));
    const test = scores.filter((score) => !none(score)).sort((a, b) => a - b).at(lower.includes(state.metric) ? 0 : -1);
    run.keys = { ...run, best, test };
    run.tick.checked = pair.includes(run);
    names.forEach((name, k) => (run.line.children[k + 2].dataset.label = name)); // narrow windows have no heads
  }
  const seen = runs.filter((run) => words.every((word) => run.text.includes(word))).sort((one, other) => {
    const [a, b] = [one.keys[key], other.keys[key]];
    return none(a) || none(b) ? none(a) - none(b) : a < b ? -way : a > b ? way : 0; // what has no value: last, either way
  });
  $("runs").replaceChildren(...seen.map((run) => run.line));
  $("sort").value = state.sort;
  $("count").textContent = seen.length < runs.length ? `${seen.length} of ${runs.length}` : "";
  for (const { value, parentNode } of heads()) parentNode.setAttribute("aria-sort", value !== key ? "none" : way > 0 ? "ascending" : "descending");
  $("pair").hidden = !pair.length;
  $("chosen").textContent = pair.map((run) => run.name).join(" and ") + (pair.length < 2 ? ": choose another one" : "");
  $("open").disabled = pair.length < 2;
}

const chosen = () => state.pair.split("\0").flatMap((name) => runs.filter((run) => run.name === name));

function choose(run) { // of three the first one gives way
  const others = chosen().filter((other) => other !== run), pair = run.tick.checked ? [...others, run].slice(-2) : others;
  change({ pair: pair.map((one) => one.name).join("\0") });
}

// ---- two, compared ----

const mark = (k) => make("i", null, { style: `background: ${COLOURS[k]}`, "aria-hidden": "true" });

function itemsOf(pair) { // returns what both have, the outputs first, a run's beside the other's; and what one of them has
  const labels = union(pair.map((run) => run.images.map((image) => image[0])));
  const item = (label, [, src, width, height, thumb]) => ({ label, src, width, ratio: width / height || 1, small: thumb, thumb: thumb && [thumb, 0, 1, 1] });
  const outputs = [], others = [], same = [], single = [];
  for (const label of labels) {
    const items = pair.flatMap((run) => run.images.filter((image) => image[0] === label).map((image) => item(`${run.name}: ${label}`, image)));
    const [one, other] = items, output = label.startsWith("fake");
    if (!other) single.push(one);
    else if (!output && one.small && one.small === other.small) same.push({ ...one, label });
    else (output ? outputs : others).push(one, other);
  }
  return [[...outputs, ...others, ...same], single];
}

function compare() {
  if (shown) shown.viewer.remove();
  const pair = chosen(), [both, single] = itemsOf(pair), items = [...both, ...single], labels = items.map((item) => item.label);
  const viewer = new Viewer(make("div", $("images")), view, { eager: true, alone: true, wheel: true });
  viewer.element.addEventListener("error", (event) => { // the page was sent elsewhere, or the run went on: the thumbnail stays
    const item = items.find(({ label, small }) => small && label === event.target.alt);
    if (!item || item.src === item.small) return;
    event.stopPropagation();
    event.target.src = item.src = item.small;
  }, true);
  shown = { viewer, items, both: both.length || single.length, from: shown ? shown.from : scrollY };
  document.body.classList.add("opened");
  const head = $("compare").firstChild;
  head.replaceChildren(...pair.map((run, k) => make("h2", null, {}, mark(k), make("a", null, { href: run.href }, run.name), make("small", null, {}, run.shown))));
  make("button", head, { title: "close (Escape)", "aria-label": "Close", onclick: closeBoth }, "✕");
  bar.labels(labels);
  view.chosen &&= view.pair.every((label) => labels.includes(label));
  const first = pair.map((run) => labels.find((label) => label.startsWith(`${run.name}: fake`)));
  if (!view.chosen) view.set({ pair: first[0] && first[1] ? first : labels.slice(0, 2) });
  viewer.show(items);
  $("more").replaceChildren(...charts(pair), table(pair));
  fit();
  $("compare").focus();
  scrollTo(0, 0);
}

function fit() { // as large as the window allows, in an even number of columns: the images of two runs stay beside each other
  if (!shown || !shown.items.length) return;
  const { viewer, items, both } = shown, over = viewer.mode !== "side", count = over ? 1 : both, box = $("images");
  const tallest = Math.max(...items.slice(0, both).map((item) => 1 / item.ratio)), high = innerHeight - box.offsetTop - GAP;
  let best = [0, 1];
  for (let columns = over ? 1 : 2; columns < count + 2; columns += 2) {
    const lines = Math.ceil(count / columns), width = (box.clientWidth - GAP * (columns - 1)) / columns;
    const fitting = Math.floor(Math.min(width, Math.max(LEAST, (high / lines - CAPTION - GAP) / tallest)));
    if (fitting > best[0]) best = [fitting, columns];
  }
  viewer.resize(...best);
}

function charts(pair) { // those of both; then, folded, those of one
  const boxes = [true, false].map(() => make("div", null, { className: "charts" }));
  for (const name of union(pair.map((run) => Object.keys(run.curves)))) {
    const lines = pair.map((run) => run.curves[name] || []);
    chart(boxes[lines.every((points) => points.length) ? 0 : 1], name, lines);
  }
  const [both, single] = boxes, count = single.children.length;
  return [both, ...(count ? [make("details", null, {}, make("summary", null, {}, `Curves of one of them alone (${count})`), single)] : [])];
}

function table(pair) {
  const place = make("table"), add = (name, values) => make("tr", place, {}, make("th", null, { scope: "row" }, name), ...values.map((value) => make("td", null, {}, value || "–")));
  add("", pair.map((run, k) => make("span", null, {}, mark(k), run.name)));
  const facts = union(pair.map((run) => Object.keys(run.facts))).sort((a, b) => a.startsWith("--") - b.startsWith("--"));
  for (const name of facts) {
    const values = pair.map((run) => run.facts[name]);
    if (values[0] !== values[1] || !name.startsWith("--")) add(name, values);
  }
  return place;
}

function chart(place, name, lines) {
  const all = lines.flat(), ys = all.map((point) => point[1]), low = Math.min(...ys), high = Math.max(...ys);
  const W = 300, H = 130, right = Math.max(...all.map((point) => point[0])), last = lines.map((points) => digits((points.at(-1) || [])[1]));
  const X = (x) => 52 + (x / (right || 1)) * (W - 58), Y = (y) => H - 20 - ((y - low) / (high - low || 1)) * (H - 30);
  const figure = make("figure", place, {}, make("figcaption", null, {}, name, ...last.flatMap((value, k) => (lines[k].length ? make("span", null, {}, mark(k), value) : []))));
  const plot = svg("svg", figure, { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${name} over epochs, at last ${last.join(" and ")}` });
  for (const y of new Set([low, high])) {
    svg("line", plot, { class: "grid", x1: 52, x2: W - 6, y1: Y(y), y2: Y(y) });
    svg("text", plot, { x: 46, y: Y(y) + 4, "text-anchor": "end" }, +y.toPrecision(Math.abs(y) < 0.01 ? 1 : 3));
  }
  svg("text", plot, { x: W - 6, y: H - 5, "text-anchor": "end" }, `epoch ${+right.toPrecision(3)}`);
  lines.forEach((points, k) => {
    const path = points.map(([x, y]) => `${X(x).toFixed(1)} ${Y(y).toFixed(1)}`).join("L");
    if (path) svg("path", plot, { d: `M${path}${points[1] ? "" : "h1"}`, style: `stroke: ${COLOURS[k]}` });
  });
}

// ---- the page, and what the address remembers ----

function address() {
  const params = new URLSearchParams(Object.entries(state).filter(([name, value]) => value !== USUAL[name]));
  if (state.open) view.params(params);
  return `#${params}`;
}

const remember = () => history.replaceState(history.state, "", address());

function change(changes) {
  Object.assign(state, changes);
  remember();
  draw();
}

function restore() {
  const params = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(USUAL)) state[name] = params.get(name) ?? value;
  for (const [name, id] of Object.entries({ q: "filter", metric: "metric", sort: "sort" })) {
    $(id).value = state[name];
    state[name] = $(id).value || ($(id).value = USUAL[name]); // a list takes what it has
  }
  draw();
  if (chosen().length < 2) state.open = "";
  if (state.open) view.restore(params), compare();
  else if (shown) leave();
}

function openBoth() { // Back closes
  state.open = "1";
  history.pushState("opened here", "", address());
  compare();
}

function closeBoth() {
  if (!shown) return false;
  clearTimeout(waiting);
  if (history.state) return history.back(); // restore() does the rest
  change({ open: "" });
  leave();
}

function leave() {
  const { viewer, from } = shown;
  shown = null;
  viewer.remove();
  document.body.classList.remove("opened");
  $("open").focus({ preventScroll: true });
  scrollTo(0, from);
}

const view = new View(() => {
  fit();
  clearTimeout(waiting);
  waiting = setTimeout(remember, 200);
});
document.addEventListener("keydown", (event) => shown || event.stopImmediatePropagation()); // the keys are for comparing
const bar = new Toolbar($("bar"), view, [["Escape", "back to all experiments", closeBoth]]);

function show(all, less) {
  [runs, lower] = [all, less];
  USUAL.metric = $("metric").value;
  $("filter").oninput = () => change({ q: $("filter").value });
  for (const id of ["metric", "sort"]) $(id).onchange = () => change({ [id]: $(id).value });
  $("open").onclick = openBoth;
  $("clear").onclick = () => change({ pair: "" });
  for (const button of heads()) {
    const ways = [...$("sort").options].map((option) => option.value).filter((way) => way.replace("-", "") === button.value);
    button.onclick = () => change({ sort: ways[Number(state.sort === ways[0])] });
  }
  runs.forEach(row);
  restore();
  addEventListener("resize", fit);
  addEventListener("hashchange", restore);
}
