"use strict";
/* The index of experiments: show() is called once, with what scripts/pages.py found. What is chosen stands in the address, so that
   a reload, or a link, shows the same. */
const START = { q: "", sort: "-saved", metric: "", pair: "", open: "" }, state = {};
const COLOURS = ["var(--accent)", "#d98c00"]; // of two that are compared
const $ = (id) => document.getElementById(id), none = (value) => value === undefined || value === null;
const digits = (value) => (none(value) ? "–" : String(+value.toPrecision(4)));
const union = (lists) => [...new Set(lists.flat())], heads = () => [...document.querySelectorAll("thead button")];
let runs, lower;

function set(node, properties) {
  for (const [key, value] of Object.entries(properties)) {
    if (key in node && !(node instanceof SVGElement)) node[key] = value;
    else node.setAttribute(key, value);
  }
  return node;
}

function make(tag, parent, properties = {}, ...children) {
  const node = set(document.createElement(tag), properties);
  node.append(...children);
  if (parent) parent.append(node);
  return node;
}

function svg(tag, parent, properties, text = "") {
  const node = set(document.createElementNS("http://www.w3.org/2000/svg", tag), properties);
  node.textContent = text;
  parent.append(node);
  return node;
}

// ---- rows ----

function row(run) {
  const line = (run.line = make("tr")), cell = (name, ...children) => make("td", line, { className: name }, ...children);
  run.tick = make("input", cell("tick"), { type: "checkbox", title: "compare", "aria-label": `compare ${run.name}` });
  run.tick.onchange = () => choose(run);
  const images = make("div", cell("images")), about = cell("about", make("a", null, { href: run.href }, run.name), make("small", null, {}, run.model));
  for (const [label, href, thumb] of run.images) {
    if (thumb) make("img", make("a", images, { href, title: `${label}, ${run.shown}` }), { src: thumb, alt: `${label} of ${run.name}` });
  }
  const options = make("p", about);
  for (const [name, value] of run.told) make("span", options, {}, `${name} `, make("b", null, {}, value));
  for (const note of run.notes) make("p", about, { className: "bad" }, note);
  const done = cell("done", digits(run.done), make("small", null, {}, run.total ? `of ${run.total}` : ""));
  if (run.total) make("progress", done, { max: run.total, value: run.done || 0, "aria-label": "epochs done" });
  run.value = cell("best");
  const tests = cell("test");
  run.nodes = run.results.map(([name, href]) => make("b", make("p", tests, {}, make("a", null, { href }, name), " ")));
  for (const time of [run.begun, run.saved]) cell("day", ...(time || "–").split(" ").map((part, k) => make(k ? "small" : "span", null, {}, part)));
  run.text = line.textContent.toLowerCase();
}

function draw() {
  const key = state.sort.replace("-", ""), way = key === state.sort ? 1 : -1, words = state.q.toLowerCase().split(/\s+/), pair = chosen();
  for (const run of runs) {
    const [best, epoch] = run.best[state.metric] || [], scores = run.results.map((one) => one[2][state.metric]);
    run.value.replaceChildren(digits(best), make("small", null, {}, none(best) ? "" : `epoch ${epoch}`));
    run.nodes.forEach((node, k) => (node.textContent = none(scores[k]) ? "" : digits(scores[k])));
    const test = scores.filter((score) => !none(score)).sort((a, b) => a - b).at(lower.includes(state.metric) ? 0 : -1);
    run.keys = { ...run, best, test };
    run.tick.checked = pair.includes(run);
  }
  const seen = runs.filter((run) => words.every((word) => run.text.includes(word))).sort((one, other) => {
    const [a, b] = [one.keys[key], other.keys[key]];
    return none(a) || none(b) ? none(a) - none(b) : a < b ? -way : a > b ? way : 0; // what has no value: last, either way
  });
  $("runs").replaceChildren(...seen.map((run) => run.line));
  $("count").textContent = seen.length < runs.length ? `${seen.length} of ${runs.length}` : "";
  for (const { value, parentNode } of heads()) parentNode.setAttribute("aria-sort", value !== key ? "none" : way > 0 ? "ascending" : "descending");
  $("pair").hidden = !pair.length;
  $("chosen").textContent = pair.map((run) => run.name).join(" and ") + (pair.length < 2 ? ": choose another one" : "");
  $("open").disabled = pair.length < 2;
}

function change(changes) {
  Object.assign(state, changes);
  const params = new URLSearchParams(Object.entries(state).filter(([name, value]) => value !== START[name]));
  history.replaceState(null, "", `#${params}`);
  draw();
}

const chosen = () => state.pair.split("\0").flatMap((name) => runs.filter((run) => run.name === name));

function choose(run) { // of three the first one gives way
  const others = chosen().filter((other) => other !== run), pair = run.tick.checked ? [...others, run].slice(-2) : others;
  change({ pair: pair.map((one) => one.name).join("\0") });
}

// ---- two, compared ----

const mark = (k) => make("i", null, { style: `background: ${COLOURS[k]}`, "aria-hidden": "true" });

function compare() {
  const pair = chosen(), dialog = make("dialog", document.body, { className: "compare", "aria-label": "Two experiments compared" });
  const head = make("header", dialog), labels = union(pair.map((run) => run.images.map((image) => image[0])));
  pair.forEach((run, k) => make("h2", head, {}, mark(k), make("a", null, { href: run.href }, run.name), make("small", null, {}, run.shown)));
  make("button", head, { autofocus: true, onclick: () => dialog.close() }, "Close");
  const images = make("div", dialog, { className: "both", style: `--columns: ${labels.length}` });
  pair.forEach((run, k) => {
    for (const label of labels) {
      const [, href, thumb] = run.images.find((image) => image[0] === label) || [], figure = make("figure", images);
      if (!href) continue;
      const image = make("img", make("a", figure, { href }), { src: href, alt: `${label} of ${run.name}` });
      image.onerror = () => (image.onerror = null, image.src = thumb); // the page was sent elsewhere, or the run went on
      make("figcaption", figure, {}, mark(k), label);
    }
  });
  const charts = make("div", dialog, { className: "charts" });
  for (const name of union(pair.map((run) => Object.keys(run.curves)))) chart(charts, name, pair.map((run) => run.curves[name] || []));
  const table = make("table", dialog), add = (name, values) => make("tr", table, {}, make("th", null, { scope: "row" }, name), ...values.map((value) => make("td", null, {}, value || "–")));
  add("", pair.map((run, k) => make("span", null, {}, mark(k), run.name)));
  for (const name of union(pair.map((run) => Object.keys(run.facts)))) {
    const values = pair.map((run) => run.facts[name]);
    if (values[0] !== values[1] || !name.startsWith("--")) add(name, values);
  }
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  dialog.onclose = () => (dialog.remove(), change({ open: "" }));
  dialog.showModal();
  change({ open: "1" });
}

function chart(place, name, lines) {
  const all = lines.flat(), ys = all.map((point) => point[1]), low = Math.min(...ys), high = Math.max(...ys);
  const W = 300, H = 130, right = Math.max(...all.map((point) => point[0])), last = lines.map((points) => digits((points.at(-1) || [])[1]));
  const X = (x) => 52 + (x / (right || 1)) * (W - 58), Y = (y) => H - 20 - ((y - low) / (high - low || 1)) * (H - 30);
  const figure = make("figure", place, {}, make("figcaption", null, {}, name, ...last.map((value, k) => make("span", null, {}, mark(k), value))));
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

// ---- the page ----

function show(all, less) {
  [runs, lower] = [all, less];
  START.metric = $("metric").value;
  Object.assign(state, START, Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
  $("filter").value = state.q;
  $("metric").value = state.metric;
  state.metric = $("metric").value || ($("metric").value = START.metric);
  if (!heads().some(({ value }) => state.sort.endsWith(value))) state.sort = START.sort;
  $("filter").oninput = () => change({ q: $("filter").value });
  $("metric").onchange = () => change({ metric: $("metric").value });
  $("open").onclick = compare;
  $("clear").onclick = () => change({ pair: "" });
  for (const button of heads()) {
    const ways = button.value === "name" ? ["name", "-name"] : [`-${button.value}`, button.value];
    button.onclick = () => change({ sort: ways[Number(state.sort === ways[0])] });
  }
  runs.forEach(row);
  draw();
  if (state.open && chosen().length === 2) compare();
}
