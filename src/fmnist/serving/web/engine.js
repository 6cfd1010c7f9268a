// Two engines behind one function: the model in this page, or the server that the page came from.

const REQUEST = 49; // images in a request to the server: a quarter of an occlusion map

// Opens the model. `note(share)` hears how much is loaded, 0 to 1.
// Gives {card, local, logits}: the model's card, whether it runs in this page, and
// logits(images: Uint8Array of n × 28 × 28) -> Promise<Float32Array of n × classes>.
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
  const answer = (wanted) =>
    new Promise((resolve, reject) => {
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(event.message || "the runtime, vendor/, is missing"));
      };
      worker.onmessage = ({ data }) => {
        if (data.error) reject(new Error(data.error));
        else if (data[wanted]) resolve(data[wanted]);
        else note(data.loaded / data.total);
      };
    });
  await answer("ready").catch((error) => {
    worker.terminate();
    throw error;
  });
  let last = Promise.resolve(); // one question at a time: answers come back in turn
  const logits = (images) => {
    const asked = last.then(() => {
      worker.postMessage({ images });
      return answer("logits");
    });
    last = asked.catch(() => {});
    return asked;
  };
  return { local: true, logits };
}

// `reason`: why the model does not run in this page; told where no server answers either.
async function theirs(reason) {
  const logits = async (images) => {
    const size = 28 * 28;
    const rows = [];
    for (let start = 0; start < images.length; start += REQUEST * size) {
      const some = images.subarray(start, start + REQUEST * size);
      rows.push(...(await ask(some)));
    }
    return Float32Array.from(rows.flat());
  };
  try {
    await logits(new Uint8Array(28 * 28));
  } catch (error) {
    throw new Error(`The model runs neither in this page (${reason.message}) nor on the server (${error.message})`);
  }
  return { local: false, logits };
}

async function ask(images) {
  const nested = [];
  for (let i = 0; i < images.length; i += 784) {
    nested.push(Array.from({ length: 28 }, (_, y) => [...images.subarray(i + 28 * y, i + 28 * y + 28)]));
  }
  for (let tries = 0; ; tries++) {
    const response = await fetch("v1/predict", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ images: nested }),
    });
    if (response.status === 503 && tries < 3) {
      const seconds = Number(response.headers.get("retry-after")) || 1; // the server is busy
      await new Promise((go) => setTimeout(go, 1000 * seconds));
      continue;
    }
    if (!response.ok) throw new Error(`v1/predict: the server answers ${response.status}.`);
    return (await response.json()).predictions.map((each) => each.logits);
  }
}
