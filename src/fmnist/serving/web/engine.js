// Two engines behind one function: the model in this page, or the server that the page came from.

const REQUEST = 49; // images in a request to the server: a quarter of an occlusion map

// Opens the model. `note(share)` hears how much is loaded, 0 to 1.
// Gives {card, local, ask}: the model's card, whether it runs in this page, and ask(question), where a
// question is {images: Uint8Array of n × 28 × 28} or {photo: ImageData}, which is used up, and the answer
// a promise of {images, logits: Float32Array of n × classes}. A photo becomes one image.
export async function open(note = () => {}) {
  const [card, engine] = await Promise.all([readCard(), ours(note).catch(theirs)]);
  return { card, ...engine };
}

async function readCard() {
  const response = await fetch("model/card.json");
  if (!response.ok) throw new Error(`model/card.json: the server answers ${response.status}.`);
  const card = await response.json();
  if (card.shape[0] !== 28 || card.shape[1] !== 28) {
    throw new Error(`This page works with models for 28 × 28 pixels; this model takes ${card.shape}.`);
  }
  if (card.photos === "whole") {
    throw new Error("This page cuts garments out of photos; this model wants photos as they are. Use fmnist predict.");
  }
  return card;
}

async function ours(note) {
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  const answer = () =>
    new Promise((resolve, reject) => {
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(event.message || "the runtime, vendor/, is missing"));
      };
      worker.onmessage = ({ data }) => {
        if (data.error) reject(new Error(data.error));
        else if (data.answer) resolve(data.answer);
        else note(data.loaded / data.total);
      };
    });
  await answer().catch((error) => {
    worker.terminate();
    throw error;
  });
  let last = Promise.resolve(); // one question at a time: answers come back in turn
  const ask = ({ images, photo }) => {
    const asked = last.then(() => {
      if (images) worker.postMessage({ images });
      else {
        const { data, width, height } = photo;
        worker.postMessage({ photo: { data, width, height } }, [data.buffer]);
      }
      return answer();
    });
    last = asked.catch(() => {});
    return asked;
  };
  return { local: true, ask };
}

// `reason`: why the model does not run in this page; told where no server answers either.
async function theirs(reason) {
  const size = 28 * 28;
  const ask = async ({ images, photo }) => {
    if (photo) {
      const [{ seen, logits }] = await post("v1/predict?seen=1", "image/png", await png(photo));
      return { images: Uint8Array.from(seen.flat()), logits: Float32Array.from(logits) };
    }
    const rows = [];
    for (let start = 0; start < images.length; start += REQUEST * size) {
      const body = JSON.stringify({ images: nested(images.subarray(start, start + REQUEST * size)) });
      rows.push(...(await post("v1/predict", "application/json", body)).map((each) => each.logits));
    }
    return { images, logits: Float32Array.from(rows.flat()) };
  };
  try {
    await ask({ images: new Uint8Array(size) });
  } catch (error) {
    throw new Error(`The model runs neither in this page (${reason.message}) nor on the server (${error.message})`);
  }
  return { local: false, ask };
}

// Rows of numbers, as JSON has images.
function nested(images) {
  return Array.from({ length: images.length / 784 }, (_, i) =>
    Array.from({ length: 28 }, (_, y) => [...images.subarray(784 * i + 28 * y, 784 * i + 28 * y + 28)]));
}

function png(photo) {
  const canvas = Object.assign(document.createElement("canvas"), { width: photo.width, height: photo.height });
  canvas.getContext("2d").putImageData(photo, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve));
}

async function post(address, type, body) {
  for (let tries = 0; ; tries++) {
    const response = await fetch(address, { method: "POST", headers: { "content-type": type }, body });
    if (response.status === 503 && tries < 3) {
      const seconds = Number(response.headers.get("retry-after")) || 1; // the server is busy
      await new Promise((go) => setTimeout(go, 1000 * seconds));
      continue;
    }
    if (!response.ok) throw new Error(`${address}: the server answers ${response.status}.`);
    return (await response.json()).predictions;
  }
}
