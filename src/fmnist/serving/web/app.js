// The page: pictures in, an answer out.

import { covered, doubts, mostImportant, occlusionMap, overlay, percent, ranking, softmax, verdict, SIDE } from "./answer.js";
import { open } from "./engine.js";
import { camera, drawing, photos } from "./pictures.js";

const SIZE = SIDE * SIDE;
const TOP = 5; // classes shown
const byId = (id) => document.getElementById(id);

const make = (name, text, className) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};

const opening = open((share) => (byId("progress").value = share));
let engine = null; // what that gives, once it does
let latest; // the question that is being answered: a later one takes its place; null: none is

// A question: {image: 28 × 28 bytes, or photo: ImageData, own: whether it is the user's picture, label,
// say: aloud or not}.
async function ask(question) {
  latest = question;
  if (!engine) return; // asked again once the model is there
  try {
    const found = await answered(question);
    if (question !== latest) return;
    tell(question, found);
    const { images: image } = found;
    if (!image.some((value) => value)) return;
    const probabilities = softmax(found.logits, engine.card.temperature);
    const first = ranking(probabilities)[0];
    const map = await regions(question, image, probabilities, first);
    if (map) {
      paint("mattered", overlay(image, map));
      byId("mattered-text").textContent = mostImportant(map, engine.card.classes[first]);
    }
  } catch (error) {
    if (question === latest) refuse(`The model failed: ${error.message}`);
  }
}

// A question's answer, {images, logits, took: milliseconds}; it is kept, for a photo is asked of once.
function answered(question) {
  question.answer ??= opening.then(async ({ ask: run }) => {
    const begun = performance.now();
    const { photo, image } = question;
    const found = await run(photo ? { photo } : { images: image.slice() });
    return { ...found, took: performance.now() - begun };
  });
  question.answer.catch(() => delete question.answer); // so that it can be asked again
  return question.answer;
}

// A row of the map at a time, so that a new question need not wait; null if there is one.
async function regions(question, image, probabilities, first) {
  const { card } = engine;
  const images = covered(image);
  const classes = card.classes.length;
  const n = images.length / SIZE;
  const every = new Float32Array(n * classes);
  const some = engine.local ? 14 : n / 4;
  for (let start = 0; start < n; start += some) {
    const { logits } = await engine.ask({ images: images.slice(start * SIZE, (start + some) * SIZE) });
    every.set(logits, start * classes);
    if (question !== latest) return null;
  }
  return occlusionMap(probabilities, every, classes, card.temperature, first);
}

function tell({ own, label, say }, { images: image, logits, took }) {
  const { card } = engine;
  const probabilities = softmax(logits, card.temperature);
  const order = ranking(probabilities).slice(0, TOP);
  const reasons = doubts(logits, card, own);
  const name = card.classes[order[0]];
  const { sure, text } = verdict(image, logits, card);
  const empty = !image.some((value) => value);
  trouble("");
  byId("result").hidden = false;
  byId("result").classList.toggle("grave", !sure);
  byId("hint").hidden = !empty;
  byId("details").hidden = empty;
  const right = label === undefined ? "" : label === name ? "right" : "wrong";
  byId("kicker").textContent = right ? `Label: ${label} ${right === "right" ? "✓" : "✗"}` : own ? "Your picture" : "";
  byId("kicker").className = right;
  byId("top").textContent = text;
  byId("bars").replaceChildren(...order.map((i) => bar(card.classes[i], probabilities[i])));
  paint("saw", overlayless(image));
  paint("mattered", overlay(image, new Float32Array(SIZE)));
  byId("mattered-text").textContent = "Looking …";
  const items = reasons.map(({ grave: bad, text }) => make("li", text, bad ? "bad" : ""));
  if (!items.length) items.push(make("li", `Nothing suggests that the answer is wrong. ${wrongShare(card)}`, "fine"));
  byId("reasons").replaceChildren(...items);
  byId("time").textContent = `${took < 10 ? took.toFixed(1) : Math.round(took)} ms, ${engine.local ? "in this page" : "on the server"}`;
  if (say === false) return;
  const second = order[1] === undefined ? "" : `, then ${card.classes[order[1]]}, ${percent(probabilities[order[1]])}`;
  const warning = reasons.find((reason) => reason.grave)?.text ?? "";
  const truth = right ? ` The label says ${label}.` : "";
  byId("said").textContent = empty
    ? `${text}. ${byId("hint").textContent}`
    : `${text}. ${name}, ${percent(probabilities[order[0]])}${second}.${truth} ${warning}`;
}

function wrongShare(card) {
  const test = card.scores?.test;
  return test ? `Still, of a hundred test images the model gets ${Math.round(100 * (1 - test.accuracy))} wrong.` : "";
}

// No answer, and why.
function refuse(why) {
  latest = null;
  byId("result").hidden = true;
  byId("said").textContent = "";
  trouble(why);
}

function bar(name, probability) {
  const item = make("li");
  const track = make("span", undefined, "track");
  track.append(make("span"));
  track.firstChild.style.width = `${100 * probability}%`;
  item.append(make("span", name, "name"), track, make("span", percent(probability), "share"));
  return item;
}

const overlayless = (image) => Uint8ClampedArray.from({ length: 4 * SIZE }, (_, i) => (i % 4 === 3 ? 255 : image[i >> 2]));

function paint(id, pixels) {
  byId(id).getContext("2d").putImageData(new ImageData(pixels, SIDE, SIDE), 0, 0);
}

function trouble(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}

const own = (photo) => (photo ? ask({ photo, own: true }) : refuse("The paper is empty."));

// One of several photos: how to show its answer, and the promise of that in words.
function ofSeveral(photo) {
  const question = { photo, own: true };
  const words = answered(question).then(({ images, logits }) => verdict(images, logits, engine.card).text);
  return { show: () => ask(question), words };
}

// What the model is: a few facts and, on demand, its card; the card of a stranger's model may say little.
function introduce({ card, local }) {
  byId("privacy").textContent = local
    ? "It runs in this page: your pictures stay on this device."
    : "It runs on the server that this page came from: your pictures are sent there.";
  const test = card.scores?.test;
  const points = (share) => (100 * share).toFixed(2);
  const facts = [];
  if (test) {
    const [low, high] = test.interval.map(points);
    facts.push(["right on test images", `${points(test.accuracy)} %`, `${low} to ${high}, n = ${whole(test.n)}`]);
  }
  const size = `${(card.bytes / 1e6).toFixed(2)} MB`;
  facts.push(card.parameters ? ["parameters", whole(card.parameters), `${size}, ${card.storage}`] : ["size", size, card.name]);
  byId("facts").replaceChildren(...facts.map(([term, value, note]) => {
    const group = make("div");
    const dd = make("dd");
    dd.append(make("b", value), make("small", note));
    group.append(make("dt", term), dd);
    return group;
  }));
  const limits = make("ul");
  limits.append(...(card.limits ?? []).map((limit) => make("li", limit)));
  const licence = card.licence ? `Licence: ${card.licence.replace(/\.$/, "")}. ` : "";
  byId("card").replaceChildren(
    make("p", `${card.name}. ${card.intended_use ?? ""}`),
    limits,
    ...(test ? [byClass(test.by_class)] : []),
    make("p", `${licence}SHA-256 of the file: ${card.sha256}.`, "small"),
  );
  byId("more").hidden = false;
}

const whole = (number) => number.toLocaleString("en");

function byClass(rows) {
  const table = make("table");
  const heads = ["class", "precision %", "recall %", "test images"];
  table.createTHead().insertRow().append(...heads.map((text) => Object.assign(make("th", text), { scope: "col" })));
  const body = table.createTBody();
  for (const row of rows) {
    const cells = [(100 * row.precision).toFixed(1), (100 * row.recall).toFixed(1), whole(row.n)];
    const name = Object.assign(make("th", row.class), { scope: "row" });
    body.insertRow().append(name, ...cells.map((text) => make("td", text)));
  }
  return table;
}

// The examples: radio buttons, so that the arrow keys go through them.
async function gallery() {
  const [about, sprite] = await Promise.all([
    fetch("gallery.json").then((response) => response.json()),
    fetch("gallery.png").then((response) => response.blob()).then((blob) => createImageBitmap(blob)),
  ]);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [sprite.width, sprite.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(sprite, 0, 0);
  const across = sprite.width / SIDE;
  const tiles = about.images.map(({ index, label }, i) => {
    const { data } = context.getImageData(SIDE * (i % across), SIDE * Math.floor(i / across), SIDE, SIDE);
    const image = Uint8Array.from({ length: SIZE }, (_, k) => data[4 * k]);
    const name = about.classes[label];
    const tile = make("label");
    const input = make("input");
    Object.assign(input, { type: "radio", name: "example", value: index });
    input.setAttribute("aria-label", `Test image ${index}, ${name}`);
    const picture = make("canvas");
    picture.width = picture.height = SIDE;
    picture.getContext("2d").putImageData(new ImageData(data, SIDE, SIDE), 0, 0);
    tile.append(input, picture);
    input.addEventListener("click", () => ask({ image, label: name })); // arrow keys click as well
    return { tile, input, first: { image, label: name, say: false } };
  });
  byId("tiles").replaceChildren(...tiles.map(({ tile }) => tile));
  tiles[0].input.checked = true;
  return tiles[0].first;
}

const panels = ["gallery", "photo", "camera", "draw"];
function choose(name) {
  document.querySelector(`input[name=source][value=${name}]`).checked = true;
  for (const each of panels) byId(each).hidden = each !== name;
  if (name !== "camera") stopCamera();
}

photos(() => choose("photo"), ofSeveral, refuse);
const stopCamera = camera(own);
drawing(own);
for (const radio of document.querySelectorAll("input[name=source]")) {
  radio.addEventListener("change", () => choose(radio.value));
}
choose(document.querySelector("input[name=source]:checked").value); // what the browser restored

const examples = gallery().catch(() => {
  byId("tiles").textContent = "The examples could not be loaded.";
  return null;
});
try {
  engine = await opening;
  introduce(engine);
  if (latest === undefined) latest = await examples;
} catch (error) {
  refuse(error.message);
}
byId("loading").hidden = true;
byId("answer").setAttribute("aria-busy", "false");
if (latest) ask(latest);
