"use strict";
// data.js calls begin(), losses(), images() and validation(), a line each, in the order in which they happened. The page loads it
// again every few seconds (a page opened as file:// may not fetch) and takes what it has not seen.
const COLOURS = ["#3b82f6", "#ef4444", "#10b981", "#f59e0b", "#8b5cf6", "#ec4899", "#14b8a6", "#a3a312", "#78716c"];
const MOST = 1000; // points drawn a line
const points = new Map(), rows = new Map(), measured = new Map(), hidden = new Set();
let run = null, changed = false, validated = false, latest = true; // whether the newest validation is shown

function begin(id) {
  if (run !== null && run !== id) location.reload(); // another training has begun in this folder
  run = id;
}

function losses(point) {
  if (points.has(point.total_iters)) return;
  points.set(point.total_iters, point);
  changed = true;
}

function make(tag, parent, properties) {
  const node = document.createElement(tag);
  Object.assign(node, properties);
  parent.append(node);
  return node;
}

function validation(point) {
  if (measured.has(point.x)) return;
  measured.set(point.x, point);
  validated = true;
}

function images(row) {
  if (rows.has(row.id)) return;
  rows.set(row.id, row);
  const section = document.createElement("section");
  const header = make("h3", section, { textContent: `epoch [${row.epoch}] ` });
  if (row.total_iters !== null) make("small", header, { textContent: `after ${row.total_iters} images` });
  lay(section, row);
  const place = document.getElementById("rows"), before = place.scrollHeight, reading = window.scrollY > place.offsetTop;
  place.prepend(section);
  if (reading) window.scrollBy(0, place.scrollHeight - before); // what is being looked at stays where it is
}

function lay(section, row) {
  for (const item of row.items) {
    const line = make("tr", make("table", section, {}), {});
    for (const [label, file, ratio] of item) {
      const cell = make("td", line, {}), address = "images/" + encodeURIComponent(file);
      const link = make("a", make("p", cell, {}), { href: address });
      const image = make("img", link, { loading: "lazy", alt: label, src: address });
      image.style.cssText = `width: ${row.width}px; aspect-ratio: ${ratio}`; // its height is known before it is loaded
      make("p", cell, { textContent: label });
    }
  }
}

function svg(tag, parent, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent.append(node);
  return node;
}

function ticks(low, high) {
  const rough = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-6; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

function drawValidation() {
  const all = [...measured.values()].sort((a, b) => a.x - b.x), place = document.getElementById("validation");
  if (!all.length) return;
  const old = place.querySelector("input"), at = latest || !old ? all.length - 1 : Number(old.value);
  place.replaceChildren();
  make("h2", place, { textContent: "Validation" });
  const charts = make("div", place, { className: "charts" });
  for (const name of new Set(all.flatMap((point) => Object.keys(point.values)))) chart(charts, name, all);
  const label = make("label", make("p", place, {}), {}), told = make("output", label, {});
  const slider = make("input", label, { type: "range", min: 0, max: all.length - 1, value: at });
  const shown = make("section", place, {});
  slider.setAttribute("aria-label", "epoch of the validation images");
  slider.oninput = () => {
    const point = all[slider.value];
    latest = Number(slider.value) === all.length - 1;
    told.textContent = `the same images after epoch ${point.x} `;
    shown.replaceChildren();
    lay(shown, point);
  };
  slider.oninput();
}

function chart(place, name, all) {
  const line = all.filter((point) => Number.isFinite(point.values[name])), values = line.map((point) => point.values[name]);
  const W = 300, H = 130, x1 = Math.max(...all.map((point) => point.x)), low = Math.min(...values), high = Math.max(...values);
  const X = (x) => 8 + (x / x1) * (W - 16), Y = (y) => 34 + (1 - (y - low) / (high - low || 1)) * (H - 44);
  const plot = svg("svg", place, { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${name} over epochs` });
  const last = values.length ? `${values[values.length - 1].toPrecision(4)} (${low.toPrecision(4)} to ${high.toPrecision(4)})` : "";
  svg("text", plot, { x: 8, y: 18 }).textContent = `${name} ${last}`;
  const path = line.map((point, k) => `${k ? "L" : "M"}${X(point.x).toFixed(1)} ${Y(point.values[name]).toFixed(1)}`);
  svg("path", plot, { d: path.join(""), stroke: COLOURS[0] });
  for (const point of line) svg("circle", plot, { cx: X(point.x), cy: Y(point.values[name]), r: 3, fill: COLOURS[0] });
}

function draw() {
  const all = [...points.values()], names = [...new Set(all.flatMap((point) => Object.keys(point.losses)))];
  const stride = Math.ceil(all.length / MOST), kept = all.filter((_, i) => i % stride === 0 || i === all.length - 1);
  const seen = names.filter((name) => !hidden.has(name));
  const values = kept.flatMap((point) => seen.map((name) => point.losses[name])).filter(Number.isFinite);
  const xs = kept.map((point) => point.x).filter(Number.isFinite);
  if (!xs.length) return;
  const W = 960, H = 320, left = 60, right = 15, top = 12, bottom = 42;
  const x0 = Math.min(0, ...xs), x1 = Math.max(...xs) || 1;
  const y0 = Math.min(0, ...values), y1 = Math.max(...values, y0 + 1e-6);
  const X = (x) => left + ((x - x0) / (x1 - x0)) * (W - left - right);
  const Y = (y) => H - bottom - ((y - y0) / (y1 - y0)) * (H - top - bottom);
  const place = document.getElementById("plot");
  place.replaceChildren();
  const plot = svg("svg", place, { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "losses over epochs" });
  for (const y of ticks(y0, y1)) {
    svg("line", plot, { class: "axis", x1: left, x2: W - right, y1: Y(y), y2: Y(y) });
    svg("text", plot, { x: left - 8, y: Y(y) + 4, "text-anchor": "end" }).textContent = y;
  }
  for (const x of ticks(x0, x1)) {
    svg("line", plot, { class: "axis", x1: X(x), x2: X(x), y1: H - bottom, y2: H - bottom + 5 });
    svg("text", plot, { x: X(x), y: H - bottom + 19, "text-anchor": "middle" }).textContent = x;
  }
  svg("text", plot, { x: (left + W - right) / 2, y: H - 6, "text-anchor": "middle" }).textContent = place.dataset.unit;
  names.forEach((name, i) => {
    if (hidden.has(name)) return;
    const line = kept.filter((point) => Number.isFinite(point.losses[name]) && Number.isFinite(point.x));
    const path = line.map((point, k) => `${k ? "L" : "M"}${X(point.x).toFixed(1)} ${Y(point.losses[name]).toFixed(1)}`);
    svg("path", plot, { d: path.join(""), stroke: COLOURS[i % COLOURS.length] });
  });
  legend(names, all[all.length - 1]);
}

function legend(names, latest) {
  const place = document.getElementById("legend");
  place.replaceChildren();
  names.forEach((name, i) => {
    const button = make("button", place, { title: "show or hide", className: hidden.has(name) ? "off" : "" });
    make("i", button, {}).style.background = COLOURS[i % COLOURS.length];
    const value = latest.losses[name];
    button.append(`${name} ${Number.isFinite(value) ? value.toPrecision(4) : ""}`);
    button.onclick = () => {
      if (!hidden.delete(name)) hidden.add(name);
      draw();
    };
  });
}

function load() {
  const script = document.createElement("script"), start = performance.now();
  script.src = `data.js?${Date.now()}`;
  script.onload = script.onerror = () => {
    script.remove();
    if (changed) draw();
    if (validated) drawValidation();
    changed = validated = false;
    setTimeout(load, Math.max(3000, 30 * (performance.now() - start))); // a long history is looked at less often
  };
  document.head.append(script);
}

load();
