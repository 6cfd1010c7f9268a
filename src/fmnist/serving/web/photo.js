// A photo in Fashion-MNIST's form: the same steps, and the same pixels, as fmnist/inference/photos.py, where
// they are explained.

import { findGarment, roundedDivision } from "./garments.js";

const SIDE = 28;
const WORK = 256;
const THUMBNAIL = 56;

// RGBA pixels, 4 · width · height bytes, to 28 × 28 bytes, 0 where there is background.
export function prepare(pixels, width, height) {
  const [rows, columns] = within(height, width, WORK);
  const work = shrink(pixels, height, width, 4, rows, columns);
  const channels = Array.from({ length: 4 }, () => new Float64Array(rows * columns));
  for (let i = 0; i < work.length; i++) channels[i & 3][i >> 2] = work[i];
  const { grey, mask } = findGarment(channels, rows, columns);
  const canvas = new Uint8Array(SIDE * SIDE);
  if (!mask.includes(1)) return canvas;
  const [top, bottom, left, right] = extent(mask, rows, columns);
  const cut = new Float64Array((bottom - top) * (right - left));
  for (let y = top, i = 0; y < bottom; y++) {
    for (let x = left; x < right; x++, i++) {
      cut[i] = mask[y * columns + x] ? grey[y * columns + x] : 255;
    }
  }
  const edges = within(bottom - top, right - left, THUMBNAIL);
  const thumbnail = shrink(cut, bottom - top, right - left, 1, ...edges);
  const small = subsampled(thumbnail, ...edges);
  const sharp = sharpened(small.pixels, small.rows, small.columns);
  const down = Math.floor((SIDE - small.rows) / 2), across = Math.floor((SIDE - small.columns) / 2);
  sharp.forEach((value, i) => {
    const y = Math.floor(i / small.columns), x = i % small.columns;
    canvas[(down + y) * SIDE + across + x] = 255 - value;
  });
  return canvas;
}

function within(height, width, longest) {
  const side = Math.max(height, width);
  if (side <= longest) return [height, width];
  return [height, width].map((n) => Math.max(1, Math.floor((2 * n * longest + side) / (2 * side))));
}

// Averages over areas; in units in which every area is whole, so that floating point is exact.
function shrink(pixels, height, width, channels, rows, columns) {
  if (rows === height && columns === width) return Float64Array.from(pixels);
  const across = new Float64Array(rows * width * channels);
  for (let row = 0; row < rows; row++) {
    for (const [y, weight] of cover(row, rows, height)) {
      const from = y * width * channels, to = row * width * channels;
      for (let i = 0; i < width * channels; i++) across[to + i] += weight * pixels[from + i];
    }
  }
  const result = new Float64Array(rows * columns * channels);
  for (let column = 0; column < columns; column++) {
    for (const [x, weight] of cover(column, columns, width)) {
      for (let row = 0; row < rows; row++) {
        for (let c = 0; c < channels; c++) {
          result[(row * columns + column) * channels + c] += weight * across[(row * width + x) * channels + c];
        }
      }
    }
  }
  return result.map((sum) => roundedDivision(sum, height * width));
}

// The old pixels that new pixel `index` of `count` covers, and how much of each.
function cover(index, count, size) {
  const first = Math.floor((index * size) / count), last = Math.ceil(((index + 1) * size) / count);
  return Array.from({ length: last - first }, (_, i) => {
    const begin = Math.max((first + i) * count, index * size);
    const end = Math.min((first + i + 1) * count, (index + 1) * size);
    return [first + i, end - begin];
  });
}

// [top, bottom, left, right] of what is in a mask, the ends excluded.
function extent(mask, rows, columns) {
  let [top, bottom, left, right] = [rows, 0, columns, 0];
  mask.forEach((set, i) => {
    if (!set) return;
    const y = Math.floor(i / columns), x = i % columns;
    top = Math.min(top, y);
    bottom = Math.max(bottom, y + 1);
    left = Math.min(left, x);
    right = Math.max(right, x + 1);
  });
  return [top, bottom, left, right];
}

// The longest edge brought to 28 by leaving out, or repeating, rows and columns.
function subsampled(image, height, width) {
  const longest = Math.max(height, width);
  const [rows, columns] = [height, width].map((n) => Math.max(1, Math.floor((2 * n * SIDE + longest) / (2 * longest))));
  const pixels = new Float64Array(rows * columns);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const from = Math.floor(((2 * y + 1) * height) / (2 * rows)) * width + Math.floor(((2 * x + 1) * width) / (2 * columns));
      pixels[y * columns + x] = image[from];
    }
  }
  return { pixels, rows, columns };
}

// image + 1/2 (image - blurred by 1 2 1 / 2 4 2 / 1 2 1), white beyond the edge.
function sharpened(image, rows, columns) {
  const at = (y, x) => (y < 0 || x < 0 || y >= rows || x >= columns ? 255 : image[y * columns + x]);
  return image.map((value, i) => {
    const y = Math.floor(i / columns), x = i % columns;
    let blurred = 0;
    for (let v = -1; v <= 1; v++) {
      for (let u = -1; u <= 1; u++) blurred += (2 - Math.abs(v)) * (2 - Math.abs(u)) * at(y + v, x + u);
    }
    return Math.min(255, Math.max(0, Math.floor((48 * value - blurred + 16) / 32)));
  });
}
