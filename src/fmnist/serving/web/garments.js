// Where in a photo the garment is: the same steps, and the same pixels, as fmnist/inference/garment_cutout.py, where
// they are explained. An image is {rows, columns, ...}; a mask is a Uint8Array, row by row.

const CLOSE = 22;
const SPREAD = 3;
const SHADE = 70;
const STEP = 3;
const LIGHT = 170;
const ROUNDS = 4;
const RIDGE = 1e-3;

// Of red, green, blue and alpha (Float64Arrays of rows · columns): {grey, mask}.
export function findGarment([red, green, blue, alpha], rows, columns) {
  const size = { rows, columns, n: rows * columns };
  const work = [red, green, blue];
  const border = borderOf(size);
  const edge = where(border);
  const grey = greyOf(work);
  if (edge.reduce((sum, i) => sum + alpha[i], 0) / edge.length < 128) {
    const over = grey.map((value, i) => roundedDivision(value * alpha[i] + 255 * (255 - alpha[i]), 255));
    return { grey: over, mask: mainPieces(Uint8Array.from(alpha, (a) => a >= 128), size) };
  }
  const { surfaces, noise } = surfacesOf(work, border, size);
  const squared = squaredTo(work, surfaces[0]);
  if (surfaces[1]) squaredTo(work, surfaces[1]).forEach((d, i) => (squared[i] = Math.min(squared[i], d)));
  const limit = Math.max(CLOSE ** 2, SPREAD ** 2 * noise);
  const ground = greyOf(surfaces[0]);
  const shaded = new Uint8Array(size.n);
  let light = 0;
  for (let i = 0; i < size.n; i++) {
    if (ground[i] < LIGHT) continue;
    light++;
    const r = surfaces[0][0][i] - red[i], g = surfaces[0][1][i] - green[i], b = surfaces[0][2][i] - blue[i];
    const even = Math.max(r, g, b) - Math.min(r, g, b) <= CLOSE;
    shaded[i] = even && grey[i] < ground[i] && squared[i] <= SHADE ** 2;
  }
  let mask = withoutShadows(Uint8Array.from(squared, (d) => d > limit), shaded, grey, size);
  if (surfaces[1]) mask = opened(mask, size);
  mask = filled(mainPieces(mask, size), 2 * light > size.n, size);
  const whitened = grey.map((value, i) =>
    ground[i] < LIGHT ? value : Math.min(255, roundedDivision(255 * value, ground[i])));
  return { grey: whitened, mask };
}

export function roundedDivision(value, by) {
  return Math.floor((2 * value + by) / (2 * by));
}

// Luma of ITU-R BT.601 in thousandths, a half upwards.
function greyOf([red, green, blue]) {
  return red.map((value, i) => Math.floor((299 * value + 587 * green[i] + 114 * blue[i] + 500) / 1000));
}

// Where a mask is set.
function where(mask) {
  const places = [];
  for (let i = 0; i < mask.length; i++) if (mask[i]) places.push(i);
  return places;
}

function squaredTo(work, surface) {
  const sum = new Float64Array(work[0].length);
  work.forEach((channel, k) => channel.forEach((value, i) => (sum[i] += (value - surface[k][i]) ** 2)));
  return sum;
}

// The upper median.
function median(values) {
  return Float64Array.from(values).sort()[values.length >> 1];
}

const bandOf = ({ rows, columns }) => Math.max(1, Math.floor(Math.min(rows, columns) / 16));

// The outermost pixels: a sixteenth of the shorter side on each edge, at least one.
function borderOf({ rows, columns, n }) {
  const band = bandOf({ rows, columns });
  const border = new Uint8Array(n).fill(1);
  for (let y = band; y < rows - band; y++) {
    for (let x = band; x < columns - band; x++) border[y * columns + x] = 0;
  }
  return border;
}

// One or two backgrounds, and the spread about the first.
function surfacesOf(work, border, size) {
  const { rows, columns } = size;
  const places = where(border);
  const first = fit(work, places, places, size);
  const explained = new Uint8Array(size.n);
  for (const i of first.explained) explained[i] = 1;
  const band = 2 * bandOf(size);
  const rest = places.filter((i) => !explained[i]);
  const odd = new Uint8Array(size.n);
  const [top, width] = [Math.max(0, rows - band), Math.min(band, columns)];
  // Both lower corners: one alone, or an upper one, is rather a garment that reaches there.
  const floor = [0, columns - width].every((left) => {
    let [all, unexplained] = [0, 0];
    for (let y = top; y < rows; y++) {
      for (let x = left; x < left + width; x++) {
        const i = y * columns + x;
        odd[i] = 1;
        all += border[i];
        unexplained += border[i] && !explained[i];
      }
    }
    return 2 * unexplained > all;
  });
  const start = floor ? rest.filter((i) => odd[i]) : [];
  const surfaces = [first.surface];
  if (start.length) surfaces.push(fit(work, rest, start, size).surface);
  return { surfaces, noise: first.noise };
}

// A surface of second degree for each channel, fitted to the pixels at `places`, beginning with the
// median colour of those at `start`. Until the end it is looked at there alone, which is quicker.
function fit(work, places, start, { rows, columns, n }) {
  const terms = (i) => {
    const y = (2 * Math.floor(i / columns) - (rows - 1)) / Math.max(1, rows - 1);
    const x = (2 * (i % columns) - (columns - 1)) / Math.max(1, columns - 1);
    return [1, x, y, x * x, x * y, y * y];
  };
  const known = places.map(terms);
  let coefficients = work.map((channel) => [median(start.map((i) => channel[i])), 0, 0, 0, 0, 0]);
  const level = (c, t) => {
    const value = c[0] + c[1] * t[1] + c[2] * t[2] + c[3] * t[3] + c[4] * t[4] + c[5] * t[5];
    return Math.floor(Math.min(255, Math.max(0, value)) + 0.500001);
  };
  let far, squared, noise = 0;
  const look = () => {
    far = new Float64Array(places.length);
    squared = new Float64Array(places.length);
    work.forEach((channel, k) => places.forEach((i, j) => {
      const off = Math.abs(channel[i] - level(coefficients[k], known[j]));
      far[j] = Math.max(far[j], off);
      squared[j] += off * off;
    }));
  };
  look();
  for (let round = 0; round < ROUNDS; round++) {
    const limit = Math.max(8, 3 * median(far));
    const kept = where(far.map((distance) => distance <= limit));
    if (!kept.length) break;
    coefficients = leastSquares(kept.map((j) => known[j]), work.map((channel) => kept.map((j) => channel[places[j]])));
    look();
    noise = median(kept.map((j) => squared[j]));
  }
  const limit = Math.max(CLOSE ** 2, SPREAD ** 2 * noise);
  const surface = work.map(() => new Float64Array(n));
  for (let i = 0; i < n; i++) {
    const at = terms(i);
    for (let k = 0; k < work.length; k++) surface[k][i] = level(coefficients[k], at);
  }
  return { surface, noise, explained: places.filter((_, j) => squared[j] <= limit) };
}

// For each channel the coefficients of the terms, with a little of a ridge on all but the first.
function leastSquares(known, channels) {
  const normal = Array.from({ length: 6 }, () => new Float64Array(6 + channels.length));
  known.forEach((at, j) => {
    for (let a = 0; a < 6; a++) {
      for (let b = 0; b < 6; b++) normal[a][b] += at[a] * at[b];
      channels.forEach((channel, k) => (normal[a][6 + k] += at[a] * channel[j]));
    }
  });
  for (let a = 1; a < 6; a++) normal[a][a] += RIDGE * known.length;
  for (let a = 0; a < 6; a++) { // Gauss and Jordan; positive definite, but the pivot costs nothing
    const pivot = normal.reduce((best, row, r) => (r > a && Math.abs(row[a]) > Math.abs(normal[best][a]) ? r : best), a);
    [normal[a], normal[pivot]] = [normal[pivot], normal[a]];
    for (let r = 0; r < 6; r++) {
      if (r === a) continue;
      const factor = normal[r][a] / normal[a][a];
      for (let c = a; c < normal[r].length; c++) normal[r][c] -= factor * normal[a][c];
    }
  }
  return channels.map((_, k) => normal.map((row, a) => row[6 + k] / row[a]));
}

// Calls `visit` for each of the four or eight pixels next to pixel i.
function around(i, { rows, columns }, eight, visit) {
  const x = i % columns;
  const up = i >= columns, down = i < (rows - 1) * columns, left = x > 0, right = x < columns - 1;
  if (up) visit(i - columns);
  if (left) visit(i - 1);
  if (right) visit(i + 1);
  if (down) visit(i + columns);
  if (!eight) return;
  if (up && left) visit(i - columns - 1);
  if (up && right) visit(i - columns + 1);
  if (down && left) visit(i + columns - 1);
  if (down && right) visit(i + columns + 1);
}

// A mask without `shaded` pixels that are reached from outside it in steps of at most STEP.
function withoutShadows(mask, shaded, grey, size) {
  const left = mask.slice();
  const waiting = where(mask.map((set) => !set));
  while (waiting.length) {
    const place = waiting.pop();
    around(place, size, false, (next) => {
      if (left[next] && shaded[next] && Math.abs(grey[next] - grey[place]) <= STEP) {
        left[next] = 0;
        waiting.push(next);
      }
    });
  }
  return left;
}

// A mask without what is less than three pixels thin; beyond the edge there is nothing.
function opened(mask, size) {
  const inner = new Uint8Array(size.n);
  const outer = new Uint8Array(size.n);
  for (const i of where(mask)) {
    let set = 0;
    around(i, size, true, (next) => (set += mask[next]));
    inner[i] = set === 8;
  }
  for (const i of where(inner)) {
    outer[i] = 1;
    around(i, size, true, (next) => (outer[next] = 1));
  }
  return outer;
}

// A mask with its holes filled: all, or those below a fiftieth of its size.
function filled(mask, all, size) {
  const { labels, sizes } = pieces(mask.map((set) => !set), size, false);
  const { rows, columns } = size;
  const outer = new Set();
  labels.forEach((label, i) => {
    const y = Math.floor(i / columns), x = i % columns;
    if (!y || !x || y === rows - 1 || x === columns - 1) outer.add(label);
  });
  const total = mask.reduce((sum, set) => sum + set, 0);
  return mask.map((set, i) => set || (!outer.has(labels[i]) && (all || 50 * sizes[labels[i]] <= total)));
}

// The largest 8-connected piece of a mask, and the others of at least a tenth of its size.
function mainPieces(mask, size) {
  const { labels, sizes } = pieces(mask, size, true);
  const largest = sizes.reduce((most, each) => Math.max(most, each), 1);
  return Uint8Array.from(labels, (label) => 10 * sizes[label] >= largest);
}

// A number from 1 for each connected piece, 0 outside; and how large each is.
function pieces(mask, size, eight) {
  const labels = new Int32Array(size.n);
  const sizes = [0];
  for (let start = 0; start < size.n; start++) {
    if (!mask[start] || labels[start]) continue;
    const found = [start];
    labels[start] = sizes.length;
    for (const place of found) { // which grows while it is gone through
      around(place, size, eight, (next) => {
        if (mask[next] && !labels[next]) {
          labels[next] = sizes.length;
          found.push(next);
        }
      });
    }
    sizes.push(found.length);
  }
  return { labels, sizes };
}
