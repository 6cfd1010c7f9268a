// Runs the model off the page's own thread, so that the page stays quick while it works.
// In: {images: Uint8Array of n × 28 × 28}; out: {logits: Float32Array of n × classes} or {error}.
// Before that, by itself: {loaded, total} in bytes, then {ready: true} or {error}.

import * as ort from "./vendor/ort.js";

const SIDE = 28;
let session;

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
  const [runtime, model] = await Promise.all([
    fetched("vendor/ort.wasm.gz", note),
    fetched("model/model.onnx", note),
  ]);
  ort.env.wasm.numThreads = 1; // more need headers that a plain file host does not send
  ort.env.wasm.wasmBinary = await inflated(runtime);
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  await logits(new Uint8Array(SIDE * SIDE)); // the first run makes room; let it not be the user's
}

async function logits(images) {
  const input = new ort.Tensor("uint8", images, [images.length / SIDE ** 2, SIDE, SIDE]);
  const outputs = await session.run({ images: input }, ["logits"]);
  return outputs.logits.data;
}

const starting = start();
starting.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ error: String(error.message ?? error) }),
);

onmessage = async ({ data }) => {
  try {
    await starting;
    postMessage({ logits: await logits(data.images) });
  } catch (error) {
    postMessage({ error: String(error.message ?? error) });
  }
};
