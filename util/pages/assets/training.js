"use strict";
/* The training page. Each line of data.js calls begin(), start(), losses(), images(), validation(), end() or next(). The page loads
   the newest file again every few seconds as a script, since a page from file:// may not fetch, and skips the lines it knows. */
const COLOURS = ["#3b82f6", "#e5484d", "#12a594", "#d98c00", "#8e4ec6", "#d6409f", "#0894b3", "#7c8b1a", "#8d7b68"];
const points = new Map(), rows = new Map(), measured = new Map(), starts = new Set(), missed = new Set(); // lines, by what tells them apart
const USUAL = { smooth: 0, log: "", off: "", at: "" }; // log empty: as fits; off: a line for each loss;
const settings = { ...USUAL }, charts = new Map(), shown = { all: [], viewers: [] }; // at: images seen; empty: the newest
const last = (list) => list[list.length - 1], all = (map) => [...map.values()];
let run = null, about = {}, ended = null, heard = 0, file = 0, more = false, fresh = false, loaded = false, cursor = null;

// ---- the lines of data.js ----

function begin(id, known) {
  if (run !== null && run !== id) location.reload(); // another run has started in this folder
  run = id;
  if (!known || starts.has(known) || missed.has(known)) return;
  missed.add(known); // a start, so all files are read again
  [file, more] = [-1, true];
}

function start(line) {
  if (starts.has(line.time)) return;
  for (const map of [points, rows, measured]) {
    for (const [key, one] of map) { // a resumed run does these again
      if (one.total_iters > line.total_iters || (one.values && line.total_iters && one.x >= line.epoch)) map.delete(key);
    }
  }
  starts.add(line.time);
  [about, ended, fresh] = [line, null, true];
}

function take(map, key, line) {
  if (map.has(key)) return;
  if (line.time) heard = loaded ? Date.now() / 1000 : line.time;
  map.set(key, line);
  [ended, fresh] = [null, true];
}

const newest = (what) => [points, measured].map((map) => (last(all(map)) || {})[what] || 0);
const losses = (line) => take(points, line.total_iters, line);
const validation = (line) => take(measured, line.x, line);
const images = (line) => take(rows, line.id, line);
const end = (line) => (ended = line);
const next = () => (more = true);

async function load() {
  do {
    more = false;
    const there = await loadScript(dataFile(file));
    if (more) file++;
    else if (!there) file = Math.max(0, file - 1); // a resumed run has removed it
  } while (more);
  if (fresh) draw();
  [fresh, loaded] = [false, true];
  drawState();
  setTimeout(load, document.hidden || ended ? 10000 : 3000);
}

function draw() {
  drawLosses();
  drawMeasured();
  drawImages();
}

// ---- the status line ----

const small = (value) => value && Math.abs(value) < 1e-3;
const number = (value) => (!Number.isFinite(value) ? "–" : small(value) ? (+value.toPrecision(3)).toExponential() : String(+value.toPrecision(4)));

function duration(seconds) {
  const minutes = Math.round(seconds / 60), hours = Math.floor(minutes / 60);
  return seconds < 90 ? `${Math.round(seconds)} s` : `${hours ? `${hours} h ` : ""}${hours < 48 ? `${minutes % 60} min` : ""}`.trim();
}

function drawState() {
  const lines = all(points).filter((line) => line.time >= about.time), now = last(lines), { epochs } = about, x = Math.max(...newest("x"));
  const from = lines[Math.min(lines.findIndex((line) => line.x >= now.x - 1), lines.length - 2)]; // an epoch ago, or a print
  const pause = Math.max(40, ...lines.slice(-200).map((line, k, list) => (k ? line.time - list[k - 1].time : 0)));
  const silence = Date.now() / 1000 - heard, done = x >= epochs || (ended && ended.epoch >= epochs);
  const state = done ? "finished" : ended ? "stopped" : !heard ? "waiting" : silence > 3 * pause ? "silent" : "training";
  const told = [state === "silent" ? `stopped? No news for ${duration(silence)}` : state], share = done ? 1 : x / epochs || 0;
  if (x) told.push(`epoch ${done ? epochs : +x.toFixed(2)}${epochs ? ` of ${epochs}` : ""}`);
  if (state === "training" && from && silence < 2 * pause) {
    const seconds = now.time - from.time;
    told.push(`${+((now.total_iters - from.total_iters) / seconds).toPrecision(3)} images/s`);
    if (epochs) told.push(`${duration(((epochs - x) * seconds) / (now.x - from.x))} left`);
  }
  if ($("state").textContent !== told.join(" · ")) $("state").textContent = told.join(" · ");
  $("state").className = state;
  $("progress").style.width = `${100 * share}%`;
  if (epochs) document.title = `${Math.floor(100 * share)}% ${about.name}`;
}

// ---- charts ----

function svg(tag, parent, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  parent.append(node);
  return node;
}

function ticks(low, high, count, log) {
  const found = [];
  for (let e = Math.floor(Math.log10(low)); log && e <= Math.log10(high); e++) {
    for (const f of high > 99 * low ? [1] : [1, 2, 5]) if (f * 10 ** e >= low && f * 10 ** e <= high) found.push(+(f * 10 ** e).toPrecision(3));
  }
  if (found.length > 1) return found;
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough)), step = power * [1, 2, 5, 10].find((f) => f * power >= rough * 0.999);
  const first = Math.ceil(low / step), length = Math.floor(high / step + 1e-6) - first + 1;
  return Array.from({ length }, (_, k) => +((first + k) * step).toPrecision(12));
}

function path(xs, ys, X, Y) { // of the points in one pixel's width: the first, the lowest, the highest and the last
  const groups = new Map();
  xs.forEach((x, k) => {
    const column = Math.floor(X(x)), [first, low, high] = groups.get(column) || [k, k, k];
    groups.set(column, [first, ys[k] < ys[low] ? k : low, ys[k] > ys[high] ? k : high, k]);
  });
  const kept = [...groups.values()].flatMap((group) => [...new Set(group)].sort((a, b) => a - b));
  return kept.map((k, i) => `${i ? "L" : "M"}${X(xs[k]).toFixed(1)} ${Y(ys[k]).toFixed(1)}`).join("");
}

function smoothed(ys, prints) { // an exponential mean over about N prints, without a bias to zero at the start
  const weight = 1 - 1 / prints;
  let sum = 0, whole = 0;
  return ys.map((y) => (sum = weight * sum + y) / (whole = weight * whole + 1));
}

function series(map, name, colour, value) { // the lines with this number
  const lines = all(map).filter((line) => Number.isFinite(value(line)));
  return { name, colour, lines, xs: lines.map((line) => line.x), ys: lines.map(value) };
}

function readOff(x) { // in all charts
  cursor = x;
  for (const chart of charts.values()) chart.point();
}

class Chart {
  constructor(place, height, label, tell) {
    Object.assign(this, { place, height, tell, lines: [] });
    this.svg = svg("svg", place, { tabindex: 0, role: "img", "aria-label": `${label}: arrow keys read it off` });
    new ResizeObserver(() => this.width !== place.clientWidth && this.draw()).observe(place);
    this.svg.onpointermove = this.svg.onpointerdown = ({ clientX }) => this.at && readOff(this.at(clientX - place.getBoundingClientRect().left));
    this.svg.onpointerleave = this.svg.onblur = () => readOff(null);
    this.svg.onkeydown = (event) => this.press(event);
  }

  show(lines, log = false, zero = false) {
    Object.assign(this, { lines: lines.filter((line) => line.xs.length), log, zero });
    this.draw();
  }

  draw() {
    const { place, height: H, lines, log } = this, W = (this.width = place.clientWidth), left = 46, right = 10, foot = H - 22;
    const values = lines.flatMap((line) => line.raw || line.ys).filter((y) => !log || y > 0), scale = log ? Math.log10 : (y) => y;
    this.svg.replaceChildren();
    this.cross = svg("g", this.svg, { class: "mark" });
    if (!W || !values.length) return;
    this.svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    const x1 = Math.max(...lines.map((line) => last(line.xs))) || 1;
    let [y0, y1] = values.reduce(([a, b], y) => [Math.min(a, y), Math.max(b, y)], [this.zero && !log ? 0 : values[0], values[0]]);
    if (y0 === y1) [y0, y1] = [y0 - Math.abs(y0) / 2, y1 + Math.abs(y1) / 2 + 1e-9];
    this.X = (x) => left + (x / x1) * (W - left - right);
    this.Y = (y) => foot - ((scale(y) - scale(y0)) / (scale(y1) - scale(y0))) * (foot - 8);
    this.at = (pixel) => ((pixel - left) / (W - left - right)) * x1;
    for (const y of ticks(y0, y1, H / 45, log)) {
      svg("line", this.svg, { class: "grid", x1: left, x2: W - right, y1: this.Y(y), y2: this.Y(y) });
      svg("text", this.svg, { x: left - 8, y: this.Y(y) + 4, "text-anchor": "end" }, small(y) ? y.toExponential() : y);
    }
    for (const x of ticks(0, x1, W / 80)) svg("text", this.svg, { x: this.X(x), y: H - 5, "text-anchor": x > 0.96 * x1 ? "end" : "middle" }, x);
    for (const { colour, xs, ys, raw, best = xs.length > 1 ? -1 : 0 } of lines) {
      for (const values of raw ? [raw, ys] : [ys]) {
        const ks = [...xs.keys()].filter((k) => !log || values[k] > 0), of = (list) => ks.map((k) => list[k]);
        svg("path", this.svg, { class: values === raw ? "raw" : "line", stroke: colour, d: path(of(xs), of(values), this.X, this.Y) });
      }
      if (best >= 0) svg("circle", this.svg, { class: "best", cx: this.X(xs[best]), cy: this.Y(ys[best]), r: 4, fill: colour });
    }
    this.svg.append(this.cross);
    this.point();
  }

  nearest({ xs }) { // to the cursor; without one the newest
    const after = cursor === null ? -1 : xs.findIndex((x) => x >= cursor), high = after < 0 ? xs.length - 1 : after;
    return after > 0 && cursor - xs[high - 1] < xs[high] - cursor ? high - 1 : high;
  }

  point() { // marks and shows the values at the cursor
    const ks = this.lines.map((line) => this.nearest(line));
    this.cross.replaceChildren();
    if (cursor !== null && this.lines.length) {
      const x = this.X(this.lines[0].xs[ks[0]]);
      svg("line", this.cross, { x1: x, x2: x, y1: 0, y2: this.height - 22 });
      this.lines.forEach(({ xs, ys, colour }, i) => {
        const cy = this.Y(ys[ks[i]]);
        if (Number.isFinite(cy)) svg("circle", this.cross, { cx: this.X(xs[ks[i]]), cy, r: 3.5, fill: colour });
      });
    }
    this.tell(this.lines, ks);
  }

  press(event) {
    const [line] = this.lines, by = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
    if (!line || !by) return;
    event.preventDefault();
    event.stopPropagation();
    readOff(line.xs[clamp(this.nearest(line) + by, 0, line.xs.length - 1)]);
  }
}

const where = (line) => `epoch ${+(line.x ?? line.epoch).toFixed(2)} · ${line.total_iters} images`;

const names = (map, what) => [...new Set(all(map).flatMap((line) => Object.keys(line[what])))];

function drawLosses() {
  const prints = Math.round(10 ** settings.smooth), legend = $("legend"), off = new Set(settings.off.split("\n"));
  const lines = names(points, "losses").map((name, k) => series(points, name, COLOURS[k % COLOURS.length], (line) => line.losses[name]));
  const seen = lines.filter((line) => line.xs.length && !off.has(line.name)), rate = series(points, "learning rate", COLOURS[8], (line) => line.lr);
  const middle = seen.map(({ ys }) => ys.slice(-99).sort((a, b) => a - b)[Math.min(ys.length, 99) >> 1]), positive = seen.every(({ ys }) => ys.every((y) => y > 0));
  const log = settings.log ? settings.log === "1" : positive && Math.max(...middle) > 8 * Math.min(...middle); // so that small losses are visible
  if (prints > 1) for (const line of seen) [line.raw, line.ys] = [line.ys, smoothed(line.ys, prints)];
  $("curves").hidden = !points.size;
  $("rate").hidden = $("lrs").hidden = !rate.xs.length;
  [$("smooth").value, $("log").checked] = [settings.smooth, log];
  $("prints").textContent = prints > 1 ? `${prints} prints` : "off";
  while (legend.children.length > lines.length) legend.lastChild.remove();
  lines.forEach(({ name, colour }, k) => {
    const button = legend.children[k] || make("button", legend, {}, make("i"), make("span"), make("b"));
    button.firstChild.style.background = colour;
    button.children[1].textContent = name;
    button.setAttribute("aria-pressed", !off.has(name));
    button.onclick = () => set({ off: [...(off.delete(name) ? off : off.add(name))].join("\n").trim() });
  });
  charts.get("losses").show(seen, log, true);
  charts.get("rate").show([rate], false, true);
}

function showLosses(lines, ks) {
  for (const button of $("legend").children) {
    const i = lines.findIndex((line) => line.name === button.children[1].textContent);
    button.lastChild.textContent = i < 0 ? "" : ` ${number(lines[i].ys[ks[i]])}`;
  }
  $("where").textContent = lines.length ? where(lines[0].lines[ks[0]]) : "";
}

function bestOf(name) { // the first of the best
  const lines = all(measured).filter((line) => Number.isFinite(line.values[name]));
  const sign = (about.lower || []).some((metric) => name === metric || name.startsWith(`${metric}_`)) ? -1 : 1;
  return lines.reduce((a, b) => (sign * b.values[name] > sign * a.values[name] ? b : a), lines[0]);
}

function drawMeasured() {
  $("validation").hidden = !measured.size;
  for (const name of names(measured, "values").sort((a, b) => (b === about.best) - (a === about.best))) {
    const line = series(measured, name, COLOURS[0], (one) => one.values[name]), key = `validation ${name}`;
    if (!charts.has(key)) {
      const figure = make("figure", $("metrics"), { className: name === about.best ? "chosen" : "" }), caption = make("figcaption", figure);
      charts.set(key, new Chart(figure, 140, name, ([one], [k]) => {
        caption.replaceChildren(make("b", null, {}, name), one ? ` ${number(one.ys[k])}` : "");
        if (one) make("small", caption, {}, " · ", cursor === null ? `best ${number(one.ys[one.best])}, epoch ${one.lines[one.best].x}` : `epoch ${one.lines[k].x}`);
      }));
    }
    charts.get(key).show([{ ...line, best: line.lines.indexOf(bestOf(name)) }]);
  }
}

// ---- images: the same at every validation, else training images ----

const address = (name) => "images/" + encodeURIComponent(name);

function drawImages() {
  const fixed = all(measured).filter((line) => line.items.length), lines = (shown.all = fixed.length ? fixed : all(rows));
  $("samples").hidden = !lines.length;
  if (!lines.length) return;
  const at = lines.find((line) => String(line.total_iters) === settings.at), line = at || last(lines), best = fixed.length && about.best && bestOf(about.best);
  Object.assign($("epoch"), { max: lines.length - 1, value: lines.indexOf(line) });
  $("when").textContent = where(line);
  $("best").hidden = !best;
  if (best) Object.assign($("best"), { textContent: `Best: ${best.x}`, onclick: () => scrub(best) });
  $("best").setAttribute("aria-pressed", line === best);
  $("newest").setAttribute("aria-pressed", !at);
  const labels = [...new Set(line.items.flat().map(([label]) => label))];
  if (!view.chosen) view.pair = usualPair(labels, about.paired);
  bar.labels(labels);
  $("fixed").style.setProperty("--size", `${line.width}px`); // --display_winsize
  while (shown.viewers.length > line.items.length) shown.viewers.pop().remove();
  line.items.forEach((item, k) => {
    const viewer = (shown.viewers[k] ||= new Viewer(make("div", $("fixed")), view, { eager: true, alone: true }));
    if (line.items.length > 1) viewer.element.dataset.number = `${k + 1} of ${line.items.length}`;
    viewer.show(item.map(([label, name, ratio]) => ({ label, role: roleOf(label, labels, about.paired), ratio, src: address(name) })));
  });
}

function scrub(line) {
  settings.at = line && line !== last(shown.all) ? String(line.total_iters) : ""; // the newest, as it comes
  drawImages();
  remember();
}

const scrubTo = (k) => scrub(shown.all[clamp(k, 0, shown.all.length - 1)]);

// ---- controls and the address ----

function set(changes) {
  Object.assign(settings, changes);
  drawLosses();
  remember();
}

function remember() {
  const params = new URLSearchParams();
  for (const name in USUAL) if (settings[name] !== USUAL[name]) params.set(name, settings[name]);
  view.params(params);
  const hash = `#${params.size ? params : "-"}`; // a bare # would scroll to the top
  if (hash !== (location.hash || "#-")) location.replace(hash);
}

function recall() {
  const params = new URLSearchParams(location.hash.slice(1));
  for (const name in USUAL) settings[name] = params.get(name) || USUAL[name];
  view.restore(params);
}

const view = new View(() => remember());
const bar = new Toolbar($("bar"), view, [[", .", "previous and next images", (key) => scrubTo(Number($("epoch").value) + (key === "," ? -1 : 1))]]);
charts.set("losses", new Chart($("plot"), 300, "Losses", showLosses));
charts.set("rate", new Chart($("rate"), 90, "Learning rate", ([line], [k]) => ($("lr").textContent = line ? number(line.ys[k]) : "")));
$("smooth").oninput = () => set({ smooth: $("smooth").value === "0" ? 0 : $("smooth").value });
$("log").onchange = () => set({ log: String(Number($("log").checked)) });
$("epoch").oninput = () => scrubTo(Number($("epoch").value));
$("newest").onclick = () => scrub(null);
recall();
load();
setInterval(drawState, 5000);
