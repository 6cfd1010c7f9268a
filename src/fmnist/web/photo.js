// A photo in Fashion-MNIST's form: the same steps, and the same pixels, as fmnist/photos.py, where
// they are explained. Whole numbers but for the background's fit.

const SIDE = 28;
const WORK = 256;
const THUMBNAIL = 56;
const CLOSE = 22;
const SPREAD = 3;

// RGBA pixels, 4 · width · height bytes, to 28 × 28 bytes, 0 where there is background.
export function prepare(pixels, width, height) {
  const size = within(height, width, WORK);
  const work = shrink(pixels, height, width, 4, ...size);
  const [rows, columns] = size;
  const n = rows * columns;
  const red = new Float64Array(n), green = new Float64Array(n), blue = new Float64Array(n);
  const alpha = new Float64Array(n), grey = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    [red[i], green[i], blue[i], alpha[i]] = work.subarray(4 * i, 4 * i + 4);
    grey[i] = Math.floor((299 * red[i] + 587 * green[i] + 114 * blue[i] + 500) / 1000);
  }
  const border = borderOf(rows, columns);
  let mask;
  const sum = border.reduce((total, i) => total + alpha[i], 0);
  if (sum / border.length < 128) {
    mask = Uint8Array.from(alpha, (a) => a >= 128);
    for (let i = 0; i < n; i++) grey[i] = 255 - roundedDivision((255 - grey[i]) * alpha[i], 255);
  } else {
    mask = mainPieces(unlikeBackground([red, green, blue], border, rows, columns), rows, columns);
  }
  const found = extent(mask, rows, columns);
  const canvas = new Uint8Array(SIDE * SIDE);
  if (!found) return canvas;
  const [top, bottom, left, right] = found;
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

function roundedDivision(value, by) {
  return Math.floor((2 * value + by) / (2 * by));
}

// Where the outermost pixels are.
function borderOf(rows, columns) {
  const band = Math.max(1, Math.floor(Math.min(rows, columns) / 16));
  const places = [];
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      if (y < band || y >= rows - band || x < band || x >= columns - band) places.push(y * columns + x);
    }
  }
  return places;
}

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

// What is further from a plane fitted to the border than the border's own spread.
function unlikeBackground(colour, border, rows, columns) {
  const n = rows * columns;
  const terms = (i) => [1, (i % columns) / Math.max(1, columns - 1), Math.floor(i / columns) / Math.max(1, rows - 1)];
  let plane = colour.map((values) => [median(border.map((i) => values[i])), 0, 0]);
  const value = (k, [, x, y]) => plane[k][0] + plane[k][1] * x + plane[k][2] * y;
  const far = (i) => {
    const at = terms(i);
    return Math.max(...colour.map((values, k) => Math.abs(values[i] - value(k, at))));
  };
  let kept = border;
  for (let round = 0; round < 4; round++) {
    const distances = border.map(far);
    const limit = Math.max(8, 3 * median(distances));
    kept = border.filter((_, i) => distances[i] <= limit);
    if (kept.length < 8) break;
    plane = fitted(kept.map(terms), colour.map((values) => kept.map((i) => values[i])));
  }
  const squared = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const at = terms(i);
    colour.forEach((values, k) => {
      const level = Math.floor(Math.min(255, Math.max(0, value(k, at))) + 0.500001);
      squared[i] += (values[i] - level) ** 2;
    });
  }
  const spread = kept.length ? median(kept.map((i) => squared[i])) : 0;
  const limit = Math.max(CLOSE ** 2, SPREAD ** 2 * spread);
  return Uint8Array.from(squared, (value) => value > limit);
}

// Least squares: for each of several right sides the coefficients of three terms.
function fitted(terms, sides) {
  const matrix = [0, 1, 2].map((i) => [0, 1, 2].map((j) => terms.reduce((sum, t) => sum + t[i] * t[j], 0)));
  const determinant = (m) =>
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
    m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
    m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
  const whole = determinant(matrix);
  return sides.map((side) => {
    const right = [0, 1, 2].map((i) => terms.reduce((sum, t, row) => sum + t[i] * side[row], 0));
    return [0, 1, 2].map((column) =>
      determinant(matrix.map((row, i) => row.map((entry, j) => (j === column ? right[i] : entry)))) / whole);
  });
}

// The largest 8-connected piece of a mask, and the others of at least a tenth of its size.
function mainPieces(mask, rows, columns) {
  const label = new Int32Array(mask.length);
  const sizes = [0];
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || label[start]) continue;
    const stack = [start];
    label[start] = sizes.length;
    let size = 0;
    while (stack.length) {
      const place = stack.pop();
      size++;
      const y = Math.floor(place / columns), x = place % columns;
      for (let v = Math.max(0, y - 1); v <= Math.min(rows - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(columns - 1, x + 1); u++) {
          const next = v * columns + u;
          if (mask[next] && !label[next]) {
            label[next] = sizes.length;
            stack.push(next);
          }
        }
      }
    }
    sizes.push(size);
  }
  const largest = Math.max(...sizes);
  return Uint8Array.from(label, (number) => number && 10 * sizes[number] >= largest);
}

// [top, bottom, left, right] of what is in a mask, the ends excluded; nothing if it is empty.
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
  return bottom ? [top, bottom, left, right] : null;
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
