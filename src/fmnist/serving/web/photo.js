// The garment of a photo in Fashion-MNIST's form: the same steps, and the same whole numbers, as
// fmnist/inference/garments.py, where they are explained.

const SIDE = 28;
export const LOOK = 64;
const WORK = 256;
const AROUND = [5, 4];
const PART = 0.15;
const MOST_PIECES = 4;
const BLACK = 12;

// RGBA pixels, 4 · width · height bytes, to 28 × 28 bytes, 0 where there is background.
// The pixels are used up. `segment`: the network: LOOK × LOOK × 3 bytes to a promise of LOOK × LOOK floats, the opacity.
export async function prepare(pixels, width, height, segment) {
  const grey = width === SIDE && height === SIDE ? greyOf(pixels, 4) : [];
  if (isOnBlack(grey)) return grey;
  layOverWhite(pixels);
  return inForm(await lookTwice(reduced(pixels, width, height), segment));
}

// Whether an image of 28 × 28 pixels has the data set's form already.
function isOnBlack(grey) {
  const border = grey.filter((_, i) => i < SIDE || i >= SIDE * (SIDE - 1) || i % SIDE === 0 || i % SIDE === SIDE - 1);
  return border.filter((value) => value <= BLACK).length > 0.6 * border.length;
}

// Luma of ITU-R BT.601 of pixels of so many channels.
function greyOf(pixels, channels) {
  return Uint8Array.from({ length: pixels.length / channels }, (_, i) => {
    const [red, green, blue] = pixels.subarray(channels * i, channels * i + 3);
    return Math.floor((299 * red + 587 * green + 114 * blue + 500) / 1000);
  });
}

// Before anything is averaged: colours that nobody sees do not count.
function layOverWhite(pixels) {
  for (let i = 0; i < pixels.length; i += 4) {
    const alpha = pixels[i + 3];
    if (alpha === 255) continue;
    for (let k = i; k < i + 3; k++) pixels[k] = roundedDivision(pixels[k] * alpha + 255 * (255 - alpha), 255);
  }
}

async function lookTwice(work, segment) {
  const { width, height } = work;
  const side = Math.max(height, width);
  let [left, top] = [Math.floor((width - side) / 2), Math.floor((height - side) / 2)];
  const first = await look(work, left, top, side, segment);
  const kept = mainPieces(first.opacity);
  if (!kept.includes(1)) return first;
  const found = extent(kept);
  const longest = Math.max(found.bottom - found.top, found.right - found.left, 8);
  const near = Math.max(8, Math.floor((2 * longest * AROUND[0] * side + AROUND[1] * LOOK) / (2 * AROUND[1] * LOOK)));
  left += Math.floor(((found.left + found.right) * side - near * LOOK) / (2 * LOOK));
  top += Math.floor(((found.top + found.bottom) * side - near * LOOK) / (2 * LOOK));
  return look(work, left, top, near, segment);
}

// Less than twice WORK pixels a side: means of whole blocks.
function reduced(pixels, width, height) {
  const size = Math.max(1, Math.floor(Math.max(height, width) / WORK));
  if (size === 1) return { pixels, width, height };
  const [down, across] = [Math.min(size, height), Math.min(size, width)];
  const [rows, columns] = [Math.floor(height / down), Math.floor(width / across)];
  const sums = new Uint32Array(rows * columns * 4);
  for (let y = 0; y < rows * down; y++) {
    let i = y * width * 4;
    for (let column = 0, to = Math.floor(y / down) * columns * 4; column < columns; column++, to += 4) {
      for (let k = 0; k < across; k++, i += 4) {
        sums[to] += pixels[i];
        sums[to + 1] += pixels[i + 1];
        sums[to + 2] += pixels[i + 2];
        sums[to + 3] += pixels[i + 3];
      }
    }
  }
  return { pixels: sums.map((sum) => roundedDivision(sum, down * across)), width: columns, height: rows };
}

// A square of a photo: {pixels: RGB, opacity}. Beyond the photo its edge is repeated.
async function look(work, left, top, side, segment) {
  const within = (start, size) => Array.from({ length: side }, (_, i) => Math.min(Math.max(start + i, 0), size - 1));
  const seen = shrink(work.pixels, work.width, 4, within(top, work.height), within(left, work.width), LOOK, LOOK);
  const pixels = new Uint8Array(LOOK * LOOK * 3);
  for (let i = 0; i < LOOK * LOOK; i++) pixels.set(seen.subarray(4 * i, 4 * i + 3), 3 * i);
  if (isTransparent(work)) {
    return { pixels, opacity: Float32Array.from({ length: LOOK * LOOK }, (_, i) => seen[4 * i + 3] / 255) };
  }
  const opacity = Float32Array.from(await segment(pixels));
  const inside = (start, size) => Array.from({ length: LOOK }, (_, i) => {
    const middle = 2 * LOOK * start + (2 * i + 1) * side;
    return middle > 0 && middle < 2 * LOOK * size;
  });
  const [down, across] = [inside(top, work.height), inside(left, work.width)];
  for (let i = 0; i < opacity.length; i++) if (!down[Math.floor(i / LOOK)] || !across[i % LOOK]) opacity[i] = 0;
  return { pixels, opacity };
}

// Whether the outermost pixels are, in the mean.
function isTransparent({ pixels, width, height }) {
  let sum = 0;
  for (let x = 0; x < width; x++) sum += pixels[4 * x + 3] + pixels[4 * ((height - 1) * width + x) + 3];
  for (let y = 0; y < height; y++) sum += pixels[4 * y * width + 3] + pixels[4 * (y * width + width - 1) + 3];
  return sum < 128 * 2 * (width + height);
}

function inForm({ pixels, opacity }) {
  const canvas = new Uint8Array(SIDE * SIDE);
  const kept = mainPieces(opacity);
  if (!kept.includes(1)) return canvas;
  const [light, grey] = [new Float64Array(LOOK * LOOK), greyOf(pixels, 3)];
  for (let i = 0; i < light.length; i++) {
    if (!around(i).some((next) => kept[next])) continue; // beyond the soft rim of what is kept
    light[i] = Math.floor((255 - grey[i]) * Math.min(1, Math.max(0, 2 * opacity[i] - 0.5)) + 0.5);
  }
  const { top, bottom, left, right } = extent(kept);
  const edges = [bottom - top, right - left];
  const longest = Math.max(...edges);
  const [rows, columns] = edges.map((n) => Math.max(1, Math.floor((2 * n * SIDE + longest) / (2 * longest))));
  const range = (start, end) => Array.from({ length: end - start }, (_, i) => start + i);
  const small = shrink(light, LOOK, 1, range(top, bottom), range(left, right), rows, columns);
  const [y, x] = [Math.floor((SIDE - rows) / 2), Math.floor((SIDE - columns) / 2)];
  for (let row = 0; row < rows; row++) canvas.set(small.subarray(row * columns, (row + 1) * columns), (y + row) * SIDE + x);
  return canvas;
}

// The old rows `ys` and columns `xs` of an image averaged over areas to rows × columns × channels; in
// units in which every area is whole, so that floating point is exact.
function shrink(pixels, width, channels, ys, xs, rows, columns) {
  const line = width * channels;
  const across = new Float64Array(rows * line);
  cover(rows, ys.length, (row, i, area) => {
    const [to, from] = [row * line, ys[i] * line];
    for (let k = 0; k < line; k++) across[to + k] += area * pixels[from + k];
  });
  const sums = new Float64Array(rows * columns * channels);
  cover(columns, xs.length, (column, i, area) => {
    for (let row = 0; row < rows; row++) {
      const [to, from] = [(row * columns + column) * channels, row * line + xs[i] * channels];
      for (let c = 0; c < channels; c++) sums[to + c] += area * across[from + c];
    }
  });
  return sums.map((sum) => roundedDivision(sum, ys.length * xs.length));
}

// Calls visit(new, old, area) for each of `size` old pixels that each new one of `count` covers.
function cover(count, size, visit) {
  for (let index = 0; index < count; index++) {
    const [begin, end] = [index * size, (index + 1) * size];
    for (let i = Math.floor(begin / count); i * count < end; i++) {
      visit(index, i, Math.min((i + 1) * count, end) - Math.max(i * count, begin));
    }
  }
}

function roundedDivision(value, by) {
  return Math.floor((2 * value + by) / (2 * by));
}

// What follows is about masks of LOOK × LOOK pixels.

// Where a mask is set, the ends excluded.
function extent(mask) {
  const found = { top: LOOK, bottom: 0, left: LOOK, right: 0 };
  mask.forEach((set, i) => {
    if (!set) return;
    const [y, x] = [Math.floor(i / LOOK), i % LOOK];
    found.top = Math.min(found.top, y);
    found.bottom = y + 1;
    found.left = Math.min(found.left, x);
    found.right = Math.max(found.right, x + 1);
  });
  return found;
}

// A pixel and those next to it, at most nine.
function around(i) {
  const [y, x] = [Math.floor(i / LOOK), i % LOOK];
  const places = [];
  for (let v = Math.max(0, y - 1); v <= Math.min(LOOK - 1, y + 1); v++) {
    for (let u = Math.max(0, x - 1); u <= Math.min(LOOK - 1, x + 1); u++) places.push(v * LOOK + u);
  }
  return places;
}

// The largest 8-connected piece of what is opaque, and others of at least PART of its size; nothing
// where more than MOST_PIECES are.
function mainPieces(opacity) {
  const seen = new Uint8Array(opacity.length);
  const pieces = [];
  for (let start = 0; start < seen.length; start++) {
    if (seen[start] || !(opacity[start] > 0.5)) continue;
    const piece = [start];
    seen[start] = 1;
    for (const place of piece) { // which grows while it is gone through
      for (const next of around(place)) {
        if (seen[next] || !(opacity[next] > 0.5)) continue;
        seen[next] = 1;
        piece.push(next);
      }
    }
    pieces.push(piece);
  }
  const limit = PART * Math.max(...pieces.map((piece) => piece.length));
  const main = pieces.filter((piece) => piece.length >= limit);
  const kept = new Uint8Array(opacity.length);
  if (main.length <= MOST_PIECES) for (const place of main.flat()) kept[place] = 1;
  return kept;
}
