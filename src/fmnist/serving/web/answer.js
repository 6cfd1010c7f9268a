// What follows from a model's logits: probabilities, doubts, and which regions mattered.

export const SIDE = 28;
const PATCH = 7; // the square that covers, and its steps: a quarter and a fourteenth of the side
const STRIDE = 2;
const STEPS = SIDE / STRIDE;
const GREY = 73; // the mean pixel of the training images
const DOUBT = 0.5; // an answer below this probability is unsure, where the card says nothing of it
const CLOSE = 0.25; // the second class is close where it is less than this behind

// Calibrated probabilities, as the ONNX file's own second output.
export function softmax(logits, temperature) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp((logit - largest) / temperature));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

// log Σ exp(logits - their mean): the higher, the more like what the model has learnt (inference/classifier.py, energy).
export function energy(logits) {
  const largest = Math.max(...logits);
  const sum = (values) => values.reduce((a, b) => a + b);
  const values = Array.from(logits);
  const mean = sum(values) / values.length;
  return largest - mean + Math.log(sum(values.map((logit) => Math.exp(logit - largest))));
}

// Indices by probability, the likeliest first.
export function ranking(probabilities) {
  return probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
}

// The image once for each place of a grey square, 14 × 14 of them (Zeiler & Fergus 2014): uint8.
export function covered(image) {
  const images = new Uint8Array(STEPS ** 2 * SIDE ** 2);
  const edge = (i) => STRIDE * i + (STRIDE >> 1) - (PATCH >> 1);
  for (let i = 0; i < STEPS ** 2; i++) {
    const each = images.subarray(i * SIDE ** 2, (i + 1) * SIDE ** 2);
    each.set(image);
    const [top, left] = [edge(Math.floor(i / STEPS)), edge(i % STEPS)];
    for (let y = Math.max(0, top); y < Math.min(SIDE, top + PATCH); y++) {
      each.fill(GREY, y * SIDE + Math.max(0, left), y * SIDE + Math.min(SIDE, left + PATCH));
    }
  }
  return images;
}

// At each pixel what class `watched` loses where the square is around it, -1 to 1: float32, 28 × 28.
export function occlusionMap(whole, logits, classes, temperature, watched) {
  const map = new Float32Array(SIDE ** 2);
  const lost = Array.from({ length: STEPS ** 2 }, (_, i) =>
    whole[watched] - softmax(logits.subarray(i * classes, (i + 1) * classes), temperature)[watched]);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      map[y * SIDE + x] = lost[Math.floor(y / STRIDE) * STEPS + Math.floor(x / STRIDE)];
    }
  }
  return map;
}

// RGBA of an image in faint grey under its map: red where covering costs the class, blue where it
// helps it, the stronger the nearer to the map's largest value, or to 0.05 where none is as large.
export function overlay(image, map) {
  const largest = Math.max(0.05, ...map.map(Math.abs));
  const pixels = new Uint8ClampedArray(4 * image.length);
  image.forEach((value, i) => {
    const strength = 0.8 * Math.min(1, Math.abs(map[i]) / largest);
    const colour = map[i] > 0 ? [214, 72, 32] : [44, 123, 190];
    colour.forEach((c, k) => (pixels[4 * i + k] = (1 - strength) * (0.6 * value + 20) + strength * c));
    pixels[4 * i + 3] = 255;
  });
  return pixels;
}

// In words, where a map is highest and how much that is.
export function mostImportant(map, name) {
  const highest = Math.max(...map);
  if (highest < 0.01) return `No single region: without any of them it is still ${name}`;
  const at = map.indexOf(highest);
  const third = (i) => Math.min(2, Math.floor((3 * i) / SIDE));
  const down = ["top", "middle", "bottom"][third(Math.floor(at / SIDE))];
  const across = ["left", "", "right"][third(at % SIDE)];
  const place = down !== "middle" ? `at the ${down} ${across}`.trim() : across ? `at the ${across}` : "in the middle";
  return `Red, most ${place}: without it ${points(highest)} less ${name}`;
}

// The answer to an image in words, and whether it is one: {sure, text}. As Python says it.
export function verdict(image, logits, card) {
  const probabilities = softmax(logits, card.temperature);
  const [first, second] = ranking(probabilities);
  const a = (name) => (/^\p{Nd}/u.test(name) ? name : `${/^[aeiou]/i.test(name) ? "an" : "a"} ${name}`);
  const best = a(card.classes[first]);
  if (!image.some((value) => value)) return { sure: false, text: "No garment found" };
  if (isUnlike(logits, card)) return { sure: false, text: "Looks like none of the classes" };
  if (isUnsure(probabilities[first], card)) return { sure: false, text: `Not sure: ${best} or ${a(card.classes[second])}` };
  return { sure: true, text: `Probably ${best}` };
}

const isUnlike = (logits, { outlier }) => outlier?.score === "centred energy" && energy(logits) < outlier.threshold;
const isUnsure = (probability, card) => probability < (card.doubt ?? DOUBT);

// Why an answer may be wrong, the gravest first: [{grave, text}], none where nothing is known.
// `own`: whether the picture is the user's rather than one of the data set.
export function doubts(logits, card, own) {
  const probabilities = softmax(logits, card.temperature);
  const [first, second] = ranking(probabilities);
  const found = [];
  const outlier = card.outlier;
  if (isUnlike(logits, card)) {
    found.push({
      grave: true,
      text: `Not like a garment: only ${percent(outlier.test_false_alarm)} of the test images look this unusual to the model ` +
        `(energy ${number(energy(logits))}, below ${number(outlier.threshold)}).`,
    });
  }
  const sure = probabilities[first];
  if (isUnsure(sure, card)) {
    found.push({
      grave: true,
      text: own
        ? "Unsure: on photos, answers with so low a probability are often wrong."
        : `Unsure: of a hundred answers with this probability about ${Math.round(100 * (1 - sure))} are wrong.`,
    });
  }
  const ahead = sure - probabilities[second];
  if (ahead < CLOSE) {
    found.push({
      grave: true,
      text: `Close: ${card.classes[second]} is only ${points(ahead)} behind ${card.classes[first]}.`,
    });
  }
  const test = card.scores?.test;
  const row = test?.by_class[first];
  if (row && row.precision < test.accuracy - 0.01) {
    found.push({
      grave: false,
      text: `${row.class} is a hard class: of a hundred test images that the model calls ${row.class}, ` +
        `${Math.round(100 * (1 - row.precision))} are something else.`,
    });
  }
  if (own) {
    found.push({
      grave: false,
      text: "Not from its data set: the probabilities are calibrated for images of the data set, and less reliable for yours.",
    });
  }
  return found;
}

const number = (value) => value.toFixed(2).replace("-", "−");

function points(share) {
  const whole = Math.round(100 * share);
  return `${whole} ${whole === 1 ? "point" : "points"}`;
}

export function percent(share) {
  const value = 100 * share;
  if (value > 99.9) return "> 99.9 %";
  if (value < 0.1) return "< 0.1 %";
  return `${value.toFixed(value < 10 || value > 99 ? 1 : 0)} %`;
}
