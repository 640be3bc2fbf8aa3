"use strict";
// The study is JSON in the page: {id, name, seconds, rounds: {practice, test, vigilance}, type, pairs: [{name, use,
// images: [fake, real]}]}, images in base64. Only this JSON says which image is fake: the page shows canvases, which
// have no name, address or size in bytes.
const at = (id) => document.getElementById(id);
const STUDY = JSON.parse(at("study").textContent);
const LEAST = 256; // pixels: the least width on the screen
const PAUSE = 600; // ms without images between an answer and the next round
const SIDES = ["first", "second"]; // left and right, or upper and lower on an upright screen
const KEYS = { ArrowLeft: "first", ArrowUp: "first", ArrowRight: "second", ArrowDown: "second" };
const digits = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0"));
const state = { participant: digits.join(""), answers: [] };
const plan = draw();
let answering = null, decoded = images(0);

// ---- rounds ----

function shuffled(items) {
  const all = [...items];
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [all[i], all[j]] = [all[j], all[i]];
  }
  return all;
}

// Practice rounds, then test rounds with the vigilance pairs among them, in a random order with random sides.
function draw() {
  const [practice, test] = [true, false].map((is) => STUDY.pairs.filter(({ use }) => is === (use === "practice")));
  return [...shuffled(practice), ...shuffled(test)].map((pair) => ({ pair, fake: SIDES[Number(Math.random() < 0.5)] }));
}

// The two images of a round, decoded, the left one first.
async function images(number) {
  if (number >= plan.length) return null;
  const { pair, fake } = plan[number];
  const bitmaps = pair.images.map((text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return createImageBitmap(new Blob([bytes], { type: STUDY.type }));
  });
  return Promise.all(fake === "first" ? bitmaps : bitmaps.reverse());
}

const frame = () => new Promise(requestAnimationFrame);

function clear() {
  for (const side of SIDES) {
    at(side).classList.remove("shown", "was_fake");
    at(side).querySelector("canvas").width = 1; // empties it
  }
}

// Show both images from one frame of the screen to the first that is due; return for how many ms they were visible.
// A page in the background gets no frames: such a round is too long, and does not count.
async function show(bitmaps) {
  let refresh = Infinity, now = await frame();
  SIDES.forEach((side, i) => {
    const canvas = at(side).querySelector("canvas");
    [canvas.width, canvas.height] = [bitmaps[i].width, bitmaps[i].height];
    canvas.getContext("2d").drawImage(bitmaps[i], 0, 0);
    at(side).classList.add("shown");
  });
  const begin = now;
  do {
    const next = await frame();
    refresh = Math.min(refresh, next - now);
    now = next;
  } while (now - begin < 1000 * STUDY.seconds - refresh / 2); // the next frame would be further from the due time
  clear();
  return Math.round(10 * (now - begin)) / 10;
}

async function round() {
  const number = state.answers.length, { pair, fake } = plan[number];
  screen("trial");
  at("progress").value = number / plan.length;
  const { practice } = STUDY.rounds, tests = plan.length - practice;
  at("count").textContent = number < practice ? `practice ${number + 1} of ${practice}` : `${number - practice + 1} of ${tests}`;
  at("question").textContent = "\u00a0";
  at("next").hidden = true;
  const bitmaps = await decoded, { width, height } = bitmaps[0];
  at("pair").style.setProperty("--width", `${Math.max(LEAST, width)}px`);
  at("pair").style.setProperty("--ratio", width / height);
  decoded = images(number + 1);
  await new Promise((resolve) => setTimeout(resolve, PAUSE));
  const shown = await show(bitmaps);
  for (const bitmap of bitmaps) bitmap.close();
  const { side, took } = await answer();
  const chosen = { chosen: side, shown: [shown, shown], width: at("first").clientWidth, took };
  state.answers.push({ pair: pair.name, use: pair.use, fake, ...chosen });
  if (pair.use === "practice") await feedback(side === fake, fake);
  if (number + 1 === STUDY.rounds.practice) return go("between", "go_on");
  return number + 1 < plan.length ? round() : end();
}

function answer() {
  at("question").textContent = "Which one was the fake?";
  for (const side of SIDES) at(side).disabled = false;
  const begin = performance.now();
  return new Promise((resolve) => {
    answering = (side) => {
      answering = null;
      for (const other of SIDES) at(other).disabled = true;
      resolve({ side, took: Math.round(performance.now() - begin) });
    };
  });
}

async function feedback(right, fake) {
  const upright = matchMedia("(orientation: portrait)").matches;
  const place = upright ? { first: "upper", second: "lower" } : { first: "left", second: "right" };
  at("question").textContent = `${right ? "Correct" : "No"}: it was the ${place[fake]} one.`;
  at(fake).classList.add("was_fake");
  await pressed("next");
  clear();
}

// ---- screens ----

function screen(id) {
  for (const other of document.querySelectorAll("main")) other.hidden = other.id !== id;
}

function pressed(id) {
  at(id).hidden = false;
  at(id).focus({ preventScroll: true });
  return new Promise((resolve) => { at(id).onclick = resolve; });
}

async function go(id, button) {
  screen(id);
  await pressed(button);
  return round();
}

function end() {
  screen("end");
  at("progress").value = 1;
  const { id, name, seconds, rounds } = STUDY;
  const answers = { format: "real_or_fake 1", study: { id, name, seconds, rounds }, ...state };
  const text = JSON.stringify(answers, null, 1) + "\n";
  at("answers").value = text;
  at("save").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  at("save").download = `answers_${name.replace(/[^A-Za-z0-9._-]+/g, "_").slice(0, 60)}_${state.participant}.json`;
}

for (const side of SIDES) at(side).addEventListener("click", () => answering?.(side));
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  if (KEYS[event.key] && answering) {
    event.preventDefault();
    answering(KEYS[event.key]);
  }
});
addEventListener("beforeunload", (event) => { // reloading would lose the answers
  if (state.answers.length && state.answers.length < plan.length) event.preventDefault();
});

go("start", "begin");
