// Runs both networks off the page's own thread, so that the page stays quick while they work.
// In: {images: Uint8Array of n × 28 × 28}, or {photo: {data, width, height}}, RGBA as in ImageData.
// Out: {answer: {images, logits: Float32Array of n × classes}} or {error}. A photo becomes one image.
// Before that, by itself: {loaded, total} in bytes, then {answer: true} or {error}.

import { LOOK, prepare } from "./photo.js";
import * as ort from "./vendor/ort.js";

const SIDE = 28;
let model, segmenter;

async function fetched(address, note) {
  const response = await fetch(new URL(address, import.meta.url));
  if (!response.ok) throw new Error(`${address}: the server answers ${response.status}`);
  const total = Number(response.headers.get("content-length")) || 0;
  const parts = [];
  let loaded = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    note(address, (loaded += value.length), Math.max(loaded, total));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// The runtime lies there compressed, a quarter of its size, whether or not the host compresses.
// A host that names the compression in its header has had it undone by the browser already.
async function inflated(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function start() {
  const sizes = {};
  const note = (address, loaded, total) => {
    sizes[address] = [loaded, total];
    const [sum, all] = [0, 1].map((i) => Object.values(sizes).reduce((n, size) => n + size[i], 0));
    postMessage({ loaded: sum, total: all });
  };
  const names = ["vendor/ort.wasm.gz", "model/model.onnx", "model/segmenter.onnx"];
  const [runtime, ...networks] = await Promise.all(names.map((name) => fetched(name, note)));
  ort.env.wasm.numThreads = 1; // more need headers that a plain file host does not send
  ort.env.wasm.wasmBinary = await inflated(runtime);
  const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
  model = await ort.InferenceSession.create(networks[0], options);
  segmenter = await ort.InferenceSession.create(networks[1], options);
  await logits(new Uint8Array(SIDE * SIDE)); // the first run makes room; let it not be the user's
  await segment(new Uint8Array(LOOK * LOOK * 3));
}

async function logits(images) {
  const input = new ort.Tensor("uint8", images, [images.length / SIDE ** 2, SIDE, SIDE]);
  return (await model.run({ images: input }, ["logits"])).logits.data;
}

async function segment(pixels) {
  const input = new ort.Tensor("uint8", pixels, [1, LOOK, LOOK, 3]);
  return (await segmenter.run({ pixels: input }, ["opacity"])).opacity.data;
}

async function answer({ images, photo }) {
  images ??= await prepare(photo.data, photo.width, photo.height, segment);
  return { images, logits: await logits(images) };
}

const told = (promise) => promise.then(
  (found) => postMessage({ answer: found ?? true }),
  (error) => postMessage({ error: String(error.message ?? error) }),
);
const starting = start();
told(starting);

onmessage = ({ data }) => told(starting.then(() => answer(data)));
