"use strict";
/* Images of one item, side by side or one over the other, in a zoom that all viewers of a page share.
   View: mode, pair, zoom and amounts that the viewers share, kept in the address. A zoom of 1 shows the whole image; (x, y), from 0
     to 1, is the point of the image in the middle of its frame.
   Viewer: shows items {label, role, src, ratio, width, thumb, note, missing}. role: input, output ...; ratio: width / height; width: in
     the file, in pixels; thumb: [address, x, width, whole width] in a strip; note: text after the label; missing: why there is no image.
     It counts panels; their sizes are page.css's. Its options: eager: load full images at once; alone: over one another, show the pair
     only; wheel: zoom without Ctrl; open(): on a double click.
   Toolbar: buttons, keys [[keys, text, action], ...] and their help. */

const MODES = { side: "Side| by side", slider: "Slider", blend: "Blend", blink: "Blink", diff: "Diff|erence" };
const percent = (value) => `${Math.round(100 * value)} %`;
const AMOUNTS = {
  slider: ["split", 0, 1, 0.005, "Position", percent],
  blend: ["blend", 0, 1, 0.01, "Mix", percent],
  blink: ["blink", 0.35, 2, 0.05, "Every", (value) => `${+value.toFixed(2)} s`], // no more than three flashes a second
  diff: ["gain", 1, 16, 0.5, "Amplify", (value) => `${value}×`],
};
const START = { mode: "side", pair: null, zoom: 1, x: 0.5, y: 0.5, split: 0.5, blend: 0.5, blink: 0.7, gain: 4 };
const MOST_ZOOM = 64;

const $ = (id) => document.getElementById(id);

function make(tag, parent, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children);
  if (parent) parent.append(node);
  return node;
}

function usualPair(labels, paired) { // an output and the same of another run, or its truth, or its input
  const [fake, other] = labels.filter((label) => /(^|: )fake/.test(label)), truth = fake && fake.replace("fake", "real");
  const second = other && fake.includes(": ") ? other : paired && labels.includes(truth) ? truth : labels.find((label) => label.startsWith("real"));
  const pair = fake && second ? [fake, second] : labels.slice(0, 2);
  return pair.sort((a, b) => labels.indexOf(a) - labels.indexOf(b));
}

function roleOf(label, labels, paired) { // of an image in a row of these; paired: null where it is unknown
  const [known, kind] = label.match(/^(real|fake|rec|idt)(_[AB](_rgb)?)?$/) || [], outputs = labels.filter((one) => one.startsWith("fake_"));
  const target = kind === "real" && outputs.length === 1 && outputs[0] === label.replace("real", "fake");
  if (target) return paired ? "truth" : paired === false ? "unpaired" : "target";
  return known ? { real: "input", fake: "output", rec: "reconstruction", idt: "identity" }[kind] : "";
}

function loadScript(address) { // returns whether it is there; a page from file:// may not fetch
  return new Promise((resolve) => {
    const script = make("script", document.head, { src: `${address}?${Date.now()}` });
    script.onload = script.onerror = (event) => (script.remove(), resolve(event.type === "load"));
  });
}

const dataFile = (number) => `data${number ? `-${String(number).padStart(3, "0")}` : ""}.js`;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

class View {
  constructor(changed = () => {}) {
    Object.assign(this, START, { changed, viewers: new Set(), listeners: new Set([() => changed()]) });
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches; // then only the space bar blinks
    this.apply();
  }

  set(changes) {
    Object.assign(this, changes);
    this.zoom = clamp(this.zoom, 1, MOST_ZOOM);
    const room = 0.5 / this.zoom; // the frame stays filled
    this.x = clamp(this.x, room, 1 - room);
    this.y = clamp(this.y, room, 1 - room);
    this.apply();
    for (const viewer of this.viewers) viewer.follow(changes);
    for (const listener of this.listeners) listener();
  }

  apply() {
    const style = document.documentElement.style; // CSS moves all images at once
    for (const name of ["zoom", "x", "y", "split", "blend", "gain"]) style.setProperty(`--${name}`, this[name]);
    document.documentElement.classList.toggle("zoomed", this.zoom > 1);
    const beat = this.mode === "blink" ? this.blink : 0;
    if (beat === this.beat) return;
    clearInterval(this.timer);
    this.beat = beat;
    if (beat && !this.still) this.timer = setInterval(() => this.flip(), beat * 1000);
  }

  flip() {
    document.documentElement.classList.toggle("flipped");
  }

  pause() {
    this.still = !this.still;
    this.beat = null;
    this.apply();
  }

  zoomAt(factor, px = 0.5, py = 0.5) { // the point at (px, py) of the frame stays there
    const zoom = clamp(this.zoom * factor, 1, MOST_ZOOM), shift = 1 / this.zoom - 1 / zoom;
    this.set({ zoom, x: this.x + (px - 0.5) * shift, y: this.y + (py - 0.5) * shift });
  }

  pan(dx, dy) { // in parts of a frame
    this.set({ x: this.x - dx / this.zoom, y: this.y - dy / this.zoom });
  }

  params(params) {
    if (this.mode !== "side") params.set("mode", this.mode);
    if (this.chosen) this.pair.forEach((label, i) => params.set("ab"[i], label));
    if (this.zoom > 1) params.set("zoom", [this.zoom, this.x, this.y].map((value) => +value.toFixed(4)).join());
    for (const [name] of Object.values(AMOUNTS)) if (this[name] !== START[name]) params.set(name, +this[name].toFixed(3));
  }

  restore(params) {
    const found = { mode: params.get("mode") in MODES ? params.get("mode") : "side" };
    const [zoom, x, y] = (params.get("zoom") || "1,0.5,0.5").split(",").map(Number);
    if ([zoom, x, y].every(Number.isFinite)) Object.assign(found, { zoom, x, y });
    for (const [name, low, high] of Object.values(AMOUNTS)) {
      const value = params.has(name) ? Number(params.get(name)) : START[name];
      if (value >= low && value <= high) found[name] = value;
    }
    this.chosen = params.has("a") && params.has("b");
    if (this.chosen) found.pair = [params.get("a"), params.get("b")];
    this.set(found);
  }
}

class Viewer {
  constructor(element, view, options = {}) {
    Object.assign(this, { element, view, options, items: [], drawn: "" });
    this.pointers = new Map();
    element.classList.add("viewer");
    const on = (name, act, passive = true) => element.addEventListener(name, act, { passive });
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) on(name, (event) => this.pointers.delete(event.pointerId));
    on("wheel", (event) => this.scroll(event), false);
    on("dblclick", (event) => {
      if (!this.frameOf(event)) return;
      if (view.zoom > 1) view.set({ zoom: 1 });
      else if (options.open) options.open();
    });
    new ResizeObserver(() => this.sharpen()).observe(element);
    view.viewers.add(this);
  }

  remove() {
    this.view.viewers.delete(this);
    this.element.remove();
  }

  get mode() {
    const [a, b] = this.pairOf();
    return a && b && a.src && b.src ? this.view.mode : "side";
  }

  pairOf() {
    return (this.view.pair || []).map((label) => this.items.find((item) => item.label === label));
  }

  show(items) {
    this.items = items;
    this.follow();
  }

  follow(changes = { mode: 1 }) {
    if ("mode" in changes || "pair" in changes) this.draw();
    if ("zoom" in changes || "mode" in changes) this.sharpen();
    for (const range of this.element.querySelectorAll("input")) range.value = this.view.split;
  }

  draw() {
    const mode = this.mode, pair = this.pairOf(), over = mode !== "side";
    const rest = this.items.filter((item) => !over || (!this.options.alone && !pair.includes(item)));
    const panels = rest.map((item) => [item]);
    if (over) panels.splice(Math.min(...pair.map((item) => this.items.indexOf(item))), 0, pair);
    const form = JSON.stringify([mode, panels.map((panel) => panel.map((item) => [item.label, !item.src, item.ratio]))]);
    if (form !== this.drawn) {
      this.drawn = form;
      const counts = { n: panels.length, half: Math.ceil(panels.length / 2), ratio: Math.min(...this.items.map((item) => item.ratio || 1)) };
      for (const [name, value] of Object.entries(counts)) this.element.style.setProperty(`--${name}`, value);
      this.element.classList.toggle("over", over);
      this.element.replaceChildren();
      this.layers = [];
      for (const panel of panels) this.build(panel, panel.length > 1 ? mode : "side");
    }
    panels.flat().forEach((item, k) => this.fill(this.layers[k], item));
    if (this.options.eager) this.load();
  }

  build(panel, mode) {
    const figure = make("figure", this.element, { className: mode });
    const frame = make("div", figure, { className: "frame" }), stack = make("div", frame, { className: "stack" });
    const caption = make("figcaption", figure);
    panel.forEach((item, k) => {
      const box = make("div", stack, { className: k ? "layer top" : "layer" });
      const moved = make("div", box, { className: "moved" });
      const thumb = make("i", moved, { "aria-hidden": "true" });
      const image = make("img", moved, { alt: item.label, hidden: true, draggable: false, decoding: "async", loading: "lazy" });
      const missing = make("p", box, { className: "missing", hidden: true });
      image.onload = () => this.sharpen();
      image.onerror = () => Object.assign(missing, { hidden: false, textContent: "This image can't be loaded." });
      const label = make("span", caption, { className: panel.length > 1 ? "ab"[k] : "" });
      this.layers.push({ frame, moved, thumb, image, missing, label });
    });
    if (mode !== "slider") return;
    make("i", frame, { className: "handle", "aria-hidden": "true" });
    const range = make("input", frame, { type: "range", min: 0, max: 1, step: 0.005, value: this.view.split });
    range.setAttribute("aria-label", `${panel[0].label} on the left, ${panel[1].label} on the right`);
    range.oninput = () => this.view.set({ split: Number(range.value) });
    range.onpointerdown = (event) => event.stopPropagation();
  }

  fill(layer, item) {
    layer.item = item;
    layer.frame.style.aspectRatio = item.ratio || 1;
    layer.label.replaceChildren(make("span", null, { title: item.label }, item.label));
    if (item.role) make("small", layer.label, { className: "role" }, item.role);
    if (item.note) make("small", layer.label, { title: item.note }, layer.label.className ? item.note.split(" ").pop() : item.note);
    if (!item.src) Object.assign(layer.missing, { hidden: false, textContent: item.missing || "There is no such image." });
    if (!item.thumb) layer.thumb.removeAttribute("style");
    else {
      const [address, x, width, whole] = item.thumb; // its part of the strip fills the frame
      layer.thumb.style.backgroundImage = `url("${address}")`;
      layer.thumb.style.backgroundSize = `${(100 * whole) / width}% 100%`;
      layer.thumb.style.backgroundPosition = `${whole > width ? (100 * x) / (whole - width) : 0}% 0`;
    }
    if (!layer.image.hidden && item.src) this.loadOne(layer);
  }

  load() {
    for (const layer of this.layers || []) {
      const { item } = layer, plain = this.mode === "side" && this.view.zoom === 1;
      const enough = item.thumb && plain && layer.frame.clientWidth * devicePixelRatio <= item.thumb[2] + 1;
      if (item.src && !enough) this.loadOne(layer);
    }
    this.wanted = true;
  }

  loadOne({ image, item, missing }) {
    if (image.getAttribute("src") === item.src) return;
    Object.assign(image, { src: item.src, alt: item.label, hidden: false });
    missing.hidden = true;
  }

  sharpen() { // pixels are shown as such where an image is larger than its file
    if (this.wanted) this.load();
    for (const { item, frame, image, moved } of this.layers || []) {
      const width = image.naturalWidth || item.width || Infinity;
      moved.classList.toggle("crisp", (frame.clientWidth * this.view.zoom) / width > 1.001);
    }
  }

  // ---- pointers ----

  frameOf(event) {
    return event.target.closest(".frame");
  }

  place(event, frame) { // in parts of the frame
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  press(event) {
    const frame = this.frameOf(event);
    if (!frame || event.button) return;
    const [px, py] = this.place(event, frame), { zoom, split } = this.view;
    const slides = frame.querySelector(".handle") && (zoom === 1 || Math.abs(px - split) * frame.clientWidth < 24);
    this.pointers.set(event.pointerId, { frame, px, py, slides });
    frame.setPointerCapture(event.pointerId);
    if (slides) this.view.set({ split: clamp(px, 0, 1) });
  }

  move(event) {
    const held = this.pointers.get(event.pointerId);
    if (!held) return;
    const [px, py] = this.place(event, held.frame), others = [...this.pointers.values()].filter((other) => other !== held);
    if (others.length) {
      const [other] = others, away = (x, y) => Math.hypot(x - other.px, y - other.py) || 1e-3;
      this.view.zoomAt(away(px, py) / away(held.px, held.py), (px + other.px) / 2, (py + other.py) / 2);
      this.view.pan((px - held.px) / 2, (py - held.py) / 2);
    } else if (held.slides) this.view.set({ split: clamp(px, 0, 1) });
    else if (this.view.zoom > 1) this.view.pan(px - held.px, py - held.py);
    Object.assign(held, { px, py });
  }

  scroll(event) {
    const frame = this.frameOf(event);
    if (!frame || !(event.ctrlKey || event.metaKey || this.options.wheel)) return;
    event.preventDefault();
    this.view.zoomAt(clamp(2 ** (-event.deltaY * (event.deltaMode ? 0.06 : 0.004)), 0.5, 2), ...this.place(event, frame));
  }
}

// ---- buttons and keys ----

class Toolbar {
  constructor(element, view, keys = []) {
    Object.assign(this, { element, view, names: [] });
    const modes = make("div", element, { className: "modes", role: "group", "aria-label": "How images are compared" });
    this.buttons = Object.entries(MODES).map(([mode, name], k) => {
      const button = make("button", modes, { title: `key ${k + 1}`, onclick: () => view.set({ mode }) });
      const [short, more] = name.split("|");
      button.append(short, make("span", null, { className: "more" }, more || ""));
      return [button, mode];
    });
    const zoom = make("div", element, { className: "zoom", role: "group", "aria-label": "Zoom" });
    make("button", zoom, { title: "zoom out (-)", "aria-label": "Zoom out", onclick: () => view.zoomAt(0.5) }, "−");
    this.zoom = make("button", zoom, { title: "whole image (0)", onclick: () => view.set({ zoom: 1 }) });
    make("button", zoom, { title: "zoom in (+)", "aria-label": "Zoom in", onclick: () => view.zoomAt(2) }, "+");
    this.pair = make("div", element, { className: "pair" });
    this.selects = ["left or below", "right or on top"].map((where, k) => {
      const select = make("select", this.pair, { "aria-label": `Image ${where}` });
      select.onchange = () => this.choose(k, select.value);
      return select;
    });
    this.label = make("label", this.pair);
    this.amountName = make("span", this.label);
    this.amount = make("input", this.label, { type: "range" });
    this.amount.oninput = () => view.set({ [AMOUNTS[view.mode][0]]: Number(this.amount.value) });
    this.amountValue = make("output", this.pair, { "aria-live": "off" });
    this.help = make("button", element, { className: "help", title: "keys (?)", "aria-label": "Help", onclick: () => this.explain() }, "?");
    this.bind(keys);
    view.listeners.add(() => this.follow());
    this.follow();
  }

  labels(names) {
    if (names.join("\n") === this.names.join("\n")) return;
    this.names = names;
    for (const select of this.selects) select.replaceChildren(...names.map((name) => make("option", null, { value: name }, name)));
    this.follow();
  }

  choose(k, label) { // the other image gives way: choosing it swaps both
    const pair = [...(this.view.pair || this.names)].slice(0, 2);
    if (pair[1 - k] === label) pair[1 - k] = pair[k];
    pair[k] = label;
    this.view.chosen = true;
    this.view.set({ pair });
  }

  follow() {
    const { view } = this, amount = AMOUNTS[view.mode];
    for (const [button, mode] of this.buttons) button.setAttribute("aria-pressed", mode === view.mode);
    this.pair.hidden = !amount;
    this.selects.forEach((select, k) => (select.value = (view.pair || [])[k] || ""));
    this.label.hidden = this.amountValue.hidden = view.mode === "slider"; // it has a handle on the images
    if (amount) {
      const [name, min, max, step, text, told] = amount;
      Object.assign(this.amount, { min, max, step, value: view[name], ariaLabel: text, ariaValueText: told(view[name]) });
      [this.amountName.textContent, this.amountValue.textContent] = [text, told(view[name])];
    }
    this.zoom.textContent = `${view.zoom < 10 ? +view.zoom.toFixed(1) : Math.round(view.zoom)}×`;
    this.zoom.setAttribute("aria-label", `Zoom ${this.zoom.textContent}; back to the whole image`);
  }

  step(by) {
    const amount = AMOUNTS[this.view.mode];
    if (!amount) return;
    const [name, low, high] = amount;
    this.view.set({ [name]: clamp(this.view[name] + (by * (high - low)) / 20, low, high) });
  }

  bind(keys) {
    const { view } = this, pan = (dx, dy) => (view.zoom > 1 ? view.pan(dx * 0.15, dy * 0.15) : false);
    const modes = Object.keys(MODES).map((mode, k) => [String(k + 1), "", () => view.set({ mode })]);
    modes[0][1] = "side by side, slider, blend, blink, difference";
    this.keys = [
      ...modes,
      ["[ ]", "less, more: position, mix, seconds, amplification", (key) => this.step(key === "[" ? -1 : 1)],
      ["Space", "blink: stop and switch by hand; b continues", () => view.mode === "blink" && (view.still || view.pause(), view.flip())],
      ["b", "", () => view.pause()],
      ["+ - 0", "zoom in, out, whole image", (key) => (key === "0" ? view.set({ zoom: 1 }) : view.zoomAt(key === "-" ? 0.5 : 2))],
      ["ArrowLeft", "arrows: move the images when zoomed in", () => pan(1, 0)],
      ["ArrowRight", "", () => pan(-1, 0)],
      ["ArrowUp", "", () => pan(0, 1)],
      ["ArrowDown", "", () => pan(0, -1)],
      ["?", "this help", () => this.explain()],
    ];
    this.keys.unshift(...keys); // the page's own come first; one that returns false leaves the key to the next
    const acts = this.keys.flatMap(([names, , act]) => names.split(" ").map((name) => [name === "Space" ? " " : name, act]));
    document.addEventListener("keydown", (event) => {
      const { target } = event, key = event.key === "=" ? "+" : event.key, typing = target.closest("select, textarea, input:not([type=range])");
      const its = key.startsWith("Arrow") && target.closest("input"), press = key === " " && target.closest("button, summary, a");
      if (event.ctrlKey || event.metaKey || event.altKey || typing || its || press) return;
      if (key !== "?" && document.querySelector("dialog[open]")) return;
      if (acts.some(([name, act]) => name === key && act(key) !== false)) event.preventDefault();
    });
  }

  explain() {
    if (this.dialog) return this.dialog.open ? this.dialog.close() : this.dialog.showModal();
    const dialog = (this.dialog = make("dialog", document.body, { className: "keys", "aria-label": "Keys" })), list = make("dl", dialog);
    const shown = { 1: "1 … 5", ArrowLeft: "← →", Space: "Space b" };
    for (const [keys, text] of this.keys) {
      if (!text) continue;
      make("dt", list, {}, ...(shown[keys] || keys).split(" ").map((key) => make("kbd", null, {}, key)));
      make("dd", list, {}, text);
    }
    make("p", dialog, {}, "On images: Ctrl and the wheel, or two fingers, zoom; dragging moves; a double click goes back to the whole image.");
    make("button", dialog, { autofocus: true, onclick: () => dialog.close() }, "Close");
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.showModal();
  }
}
