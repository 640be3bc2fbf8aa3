"use strict";
// The study is JSON in the page: {id, name, seconds, in_turn, jpeg, rounds: {practice, test, vigilance}, type, pairs:
// [{name, use, images: [fake, real]}]}, images in base64. Only this JSON says which image is fake: the page shows
// canvases, which have no name, address or size in bytes.
const STUDY = JSON.parse(document.getElementById("study").textContent);
const LEAST = 256; // pixels: the least width on the screen
const PAUSE = 600; // ms without images between an answer and the next round
const SIDES = ["first", "second"]; // left and right, or upper and lower on an upright screen
const KEYS = { ArrowLeft: "first", ArrowUp: "first", ArrowRight: "second", ArrowDown: "second" };
const at = (id) => document.getElementById(id);
let state, plan, answering = null, wait = null;

// ---- participants and their rounds ----

function hex(count) {
  return [...crypto.getRandomValues(new Uint8Array(count))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Random numbers in [0, 1) from 32 hexadecimal digits: Marsaglia's xorshift with a period of 2^128 - 1.
function generator(seed) {
  let [x, y, z, w] = seed.match(/.{8}/g).map((word) => parseInt(word, 16));
  return () => {
    const t = x ^ (x << 11);
    [x, y, z] = [y, z, w];
    w ^= (w >>> 19) ^ t ^ (t >>> 8);
    return (w >>> 0) / 2 ** 32;
  };
}

function shuffled(items, random) {
  const all = [...items];
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [all[i], all[j]] = [all[j], all[i]];
  }
  return all;
}

// Practice rounds, then test rounds with the vigilance pairs among them. Choice, order and sides follow from the seed.
function draw(seed) {
  const random = generator(seed), of = (use) => shuffled(STUDY.pairs.filter((pair) => pair.use === use), random);
  const { practice, test } = STUDY.rounds;
  const tested = shuffled([...of("test").slice(0, test), ...of("vigilance")], random);
  return [...of("practice").slice(0, practice), ...tested].map((pair) => ({ pair, fake: SIDES[Number(random() < 0.5)] }));
}

// A page that is reloaded in the same tab resumes; a round that was being shown keeps no answer.
function resume() {
  try {
    state = JSON.parse(sessionStorage.getItem(STUDY.id));
  } catch { /* no storage here */ }
  state ??= { participant: hex(8), seed: hex(16), answers: [], shown: 0 };
  plan = draw(state.seed);
  if (state.shown > state.answers.length) record({ chosen: null, shown: null, width: null, took: null, by: null });
}

function keep() {
  try {
    sessionStorage.setItem(STUDY.id, JSON.stringify(state));
  } catch { /* then a reload starts anew */ }
}

function record(answer) {
  const { pair, fake } = plan[state.answers.length];
  state.answers.push({ pair: pair.name, use: pair.use, fake, ...answer });
  keep();
}

// ---- one round ----

const decoded = new Map(); // round -> promise of its two images, decoded

function images(number) {
  if (number >= plan.length) return null;
  if (!decoded.has(number)) {
    const { pair, fake } = plan[number];
    const bitmaps = pair.images.map((text) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      return createImageBitmap(new Blob([bytes], { type: STUDY.type }));
    });
    decoded.set(number, Promise.all(fake === "first" ? bitmaps : bitmaps.reverse()));
  }
  return decoded.get(number);
}

const frame = () => new Promise(requestAnimationFrame);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function clear() {
  for (const side of SIDES) {
    at(side).classList.remove("shown", "was_fake");
    at(side).querySelector("canvas").width = 1; // empties it
  }
}

function reveal(side, bitmap) {
  const canvas = at(side).querySelector("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  at(side).classList.add("shown");
}

// Show sides from one frame of the screen to the first that is due; return for how many ms they were visible.
async function show(sides, bitmaps) {
  let refresh = Infinity, now = await frame();
  for (const side of sides) reveal(side, bitmaps[SIDES.indexOf(side)]);
  const begin = now, length = 1000 * STUDY.seconds;
  while (!document.hidden) {
    const next = await Promise.race([frame(), covered]);
    if (next === undefined) break;
    refresh = Math.min(refresh, next - now);
    now = next;
    if (now - begin >= length - refresh / 2) break; // nearer than the next frame will be
  }
  const end = document.hidden ? performance.now() : now;
  clear();
  return Math.round(10 * (end - begin)) / 10;
}

// Resolved when the page is covered or uncovered: a covered page gets no frames.
let cover, covered = new Promise((resolve) => { cover = resolve; });
document.addEventListener("visibilitychange", () => {
  cover();
  covered = new Promise((resolve) => { cover = resolve; });
});

async function round() {
  const number = state.answers.length, { pair, fake } = plan[number];
  screen("trial");
  progress(number);
  say("");
  at("next").hidden = true;
  const bitmaps = await images(number), { width, height } = bitmaps[0];
  at("pair").style.setProperty("--width", `${Math.max(LEAST, width)}px`);
  at("pair").style.setProperty("--ratio", width / height);
  images(number + 1);
  await pause(PAUSE);
  state.shown = number + 1;
  keep();
  const shown = STUDY.in_turn ? [await show(["first"], bitmaps), await show(["second"], bitmaps)]
    : Array(2).fill(await show(SIDES, bitmaps));
  for (const bitmap of bitmaps) bitmap.close();
  decoded.delete(number);
  const { side, by, took } = await answer();
  record({ chosen: side, shown, width: at("first").clientWidth, took, by });
  if (pair.use === "practice") await feedback(side === fake, fake);
  if (state.answers.length === STUDY.rounds.practice && pair.use === "practice") return goOn("between", "go_on");
  return state.answers.length < plan.length ? round() : end();
}

function answer() {
  say("Which one was the fake?");
  for (const side of SIDES) at(side).disabled = false;
  const begin = performance.now();
  return new Promise((resolve) => {
    answering = (side, by) => {
      answering = null;
      for (const other of SIDES) at(other).disabled = true;
      resolve({ side, by, took: Math.round(performance.now() - begin) });
    };
  });
}

async function feedback(right, fake) {
  const place = upright() ? { first: "upper", second: "lower" } : { first: "left", second: "right" };
  say(`${right ? "Correct" : "No"}: it was the ${place[fake]} one.`, right ? "right" : "wrong");
  at(fake).classList.add("was_fake");
  at(fake).querySelector("span").textContent = "fake";
  await pressed("next");
  at(fake).querySelector("span").textContent = "this one";
  clear();
}

// ---- screens ----

const upright = () => matchMedia("(orientation: portrait)").matches;

function screen(id) {
  for (const other of document.querySelectorAll("main")) other.hidden = other.id !== id;
}

function say(text, look = "") {
  at("question").textContent = text || "\u00a0";
  at("question").className = look;
}

function progress(done) {
  at("progress").setAttribute("aria-valuemax", plan.length);
  at("progress").setAttribute("aria-valuenow", done);
  at("progress").firstElementChild.style.width = `${(100 * done) / plan.length}%`;
}

function pressed(id) {
  at(id).hidden = false;
  at(id).focus({ preventScroll: true });
  return new Promise((resolve) => {
    wait = () => {
      wait = null;
      at(id).blur();
      resolve();
    };
    at(id).onclick = wait;
  });
}

async function goOn(id, button) {
  screen(id);
  await pressed(button);
  return round();
}

function result() {
  const { id, name, seconds, in_turn, jpeg, rounds } = STUDY, { participant, seed, answers } = state;
  const size = { width: innerWidth, height: innerHeight, pixel_ratio: devicePixelRatio, upright: upright() };
  return { format: "real_or_fake 1", study: { id, name, seconds, in_turn, jpeg, rounds }, participant, seed, window: size, answers };
}

function end() {
  screen("end");
  progress(plan.length);
  const text = JSON.stringify(result(), null, 1) + "\n";
  at("answers").value = text;
  at("save").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  at("save").download = `answers_${STUDY.name.replace(/[^A-Za-z0-9._-]+/g, "_").slice(0, 60)}_${state.participant}.json`;
  at("another").onclick = () => {
    sessionStorage.removeItem(STUDY.id);
    location.reload();
  };
}

for (const side of SIDES) at(side).addEventListener("click", (event) => answering?.(side, event.detail ? "pointer" : "key"));
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  if (KEYS[event.key] && answering) {
    event.preventDefault();
    answering(KEYS[event.key], "key");
  } else if (event.key === " " && wait && event.target.tagName !== "BUTTON") {
    event.preventDefault();
    wait();
  }
});
addEventListener("unhandledrejection", ({ reason }) => {
  screen("broken");
  at("reason").textContent = `${reason} – a newer browser may work.`;
});

resume();
images(state.answers.length);
if (state.answers.length === plan.length) end();
else if (state.answers.length && state.answers.length === STUDY.rounds.practice) goOn("between", "go_on");
else {
  if (state.answers.length) at("begin").textContent = "Continue";
  goOn("start", "begin");
}
