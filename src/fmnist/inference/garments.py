"""Cuts the garment out of a photo and brings it into Fashion-MNIST's form, 28×28, light on dark.

A small network, `shipped/segmenter.onnx` (made by `tools/segmenter.py`), says of 64×64 pixels
where the garment is. It looks twice: at the whole photo, then at the part where it found something.
Around it all is whole numbers, or says how it rounds: `serving/web/photo.js` has the same steps.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnxruntime

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Whole = NDArray[np.int64]
Mask = NDArray[np.bool_]
SEGMENTER = Path(__file__).parent / "shipped" / "segmenter.onnx"
SIDE = 28
LOOK = 64  # pixels of a side that the network sees
WORK = 256  # pixels: a photo's longest side is brought to this, or up to twice as much
AROUND = 5, 4  # the second look's side, as a fraction of the longest edge of what was found
PART = 0.15  # of the largest piece's size: smaller ones are no part of the garment
MOST_PIECES = 4  # more of them are no garment


class Look(NamedTuple):
    """What the network saw, RGB (LOOK, LOOK, 3) uint8, and its opacity, float32 (LOOK, LOOK)."""

    pixels: Bytes
    opacity: Floats


def cut_out(pixels: Bytes) -> Bytes:
    """The garment of a photo in Fashion-MNIST's form: uint8 (28, 28); zeros where there is none.

    `pixels`: uint8, grey (height, width), RGB or RGBA (height, width, 3 or 4).
    """
    return in_form(look(pixels))


def look(pixels: Bytes) -> Look:
    """The garment from near: the second look. `pixels` as for `cut_out`.

    Where the border is transparent, the photo's own opacity is taken instead of the network's.
    """
    work = _reduced(_over_white(pixels))
    height, width = work.shape[:2]
    side = max(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    first = _look(work, left, top, side)
    kept = main_pieces(first.opacity > 0.5)
    if not kept.any():
        return first
    (y, bottom), (x, right) = extent(kept, 1), extent(kept, 0)
    longest = max(bottom - y, right - x, 8)
    near = max(8, (2 * longest * AROUND[0] * side + AROUND[1] * LOOK) // (2 * AROUND[1] * LOOK))
    left += ((x + right) * side - near * LOOK) // (2 * LOOK)
    top += ((y + bottom) * side - near * LOOK) // (2 * LOOK)
    return _look(work, left, top, near)


def _over_white(pixels: Bytes) -> Bytes:
    """RGBA laid over white, before anything is averaged: colours that nobody sees do not count."""
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return pixels
    alpha = pixels[:, :, 3:].astype(np.uint16)
    sums = pixels[:, :, :3] * alpha + 255 * (255 - alpha)  # at most 255²
    return np.concatenate([((sums + 127) // 255).astype(np.uint8), pixels[:, :, 3:]], axis=2)


def _reduced(pixels: Bytes) -> Bytes:
    """RGB or RGBA of less than twice WORK pixels a side: means of whole blocks, a half upwards."""
    if pixels.ndim == 2:  # three equal channels
        pixels = np.repeat(pixels[:, :, np.newaxis], 3, axis=2)
    height, width, channels = pixels.shape
    size = max(1, max(height, width) // WORK)
    down, across = min(size, height), min(size, width)
    rows, columns = height // down, width // across
    if size == 1:
        return pixels
    cut = pixels[: rows * down, : columns * across].reshape(rows, down, columns * across, channels)
    sums = cut.sum(axis=1, dtype=np.uint32).reshape(rows, columns, across, channels)
    return rounded_division(sums.sum(axis=2, dtype=np.uint32), down * across).astype(np.uint8)


def _look(work: Bytes, left: int, top: int, side: int) -> Look:
    """A square of a photo, at (left, top), `side` long. Beyond the photo its edge is repeated."""
    rows = np.clip(np.arange(top, top + side), 0, work.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, work.shape[1] - 1)
    seen = shrink(work[rows][:, columns], LOOK, LOOK)
    colours = seen[:, :, :3].astype(np.uint8)
    if work.shape[2] == 4 and _is_transparent(work):
        return Look(colours, (seen[:, :, 3] / 255).astype(np.float32))
    (opacity,) = _segmenter().run(["opacity"], {"pixels": colours[np.newaxis]})[0]
    inside = _inside(top, side, work.shape[0])[:, np.newaxis] & _inside(left, side, work.shape[1])
    return Look(colours, np.where(inside, opacity, np.float32(0)))


def _inside(start: int, side: int, size: int) -> Mask:
    """Which of LOOK pixels of a look have their middle within a photo's `size` pixels: (LOOK,)."""
    middles = 2 * LOOK * start + (2 * np.arange(LOOK) + 1) * side
    return np.asarray((middles > 0) & (middles < 2 * LOOK * size))


def _is_transparent(work: Bytes) -> bool:
    """Whether the outermost pixels are, in the mean."""
    alpha = work[:, :, 3]
    edges = (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])
    return bool(np.concatenate(edges).mean() < 128)


@functools.cache
def _segmenter() -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # 2 ms: others may be looked at meanwhile
    return onnxruntime.InferenceSession(SEGMENTER, options, providers=["CPUExecutionProvider"])


def in_form(seen: Look) -> Bytes:
    """A look's garment, uint8 (28, 28): grey, negated, 0 around it, centred, its longest edge 28.

    Areas are averaged, weighed by opacity. Zeros where there is no garment, or scattered pieces.
    """
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    kept = main_pieces(seen.opacity > 0.5)
    if not kept.any():
        return canvas
    (top, bottom), (left, right) = extent(kept, 1), extent(kept, 0)
    near = np.logical_or.reduce(neighbourhood(kept))  # the soft rim of what is kept
    opacity = np.clip(2 * seen.opacity.astype(np.float64) - 0.5, 0, 1) * near
    light = np.floor((255 - grey_of(seen.pixels.astype(np.int64))) * opacity + 0.5)
    cut = light[top:bottom, left:right, np.newaxis]
    longest = max(cut.shape)
    rows, columns = (max(1, (2 * n * SIDE + longest) // (2 * longest)) for n in cut.shape[:2])
    y, x = (SIDE - rows) // 2, (SIDE - columns) // 2
    canvas[y : y + rows, x : x + columns] = shrink(cut, rows, columns)[:, :, 0]
    return canvas


def shrink(pixels: NDArray[Any], rows: int, columns: int) -> Whole:
    """Whole numbers (height, width, channels) averaged over areas to (rows, columns, channels).

    Each new pixel is the mean of what it covers, with parts of pixels as their area, rounded to the
    nearest whole number, a half upwards. To more pixels it works as well.
    """
    height, width, channels = pixels.shape
    # In units in which a pixel is `rows` high and a new one `height`, all areas are whole numbers,
    # and so are the sums, below 2**53: floating point is exact.
    across = _summed(pixels.reshape(height, -1).astype(np.float64), rows)
    turned = across.reshape(rows, width, channels).transpose(1, 0, 2).reshape(width, -1)
    sums = _summed(turned, columns).reshape(columns, rows, channels).transpose(1, 0, 2)
    return rounded_division(sums.astype(np.int64), height * width)


def _summed(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Lines (size, m) summed to (count, m), each by how much of it the new one covers."""
    sums = np.empty((count, values.shape[1]))
    for new, (first, last, areas) in enumerate(_cover(count, len(values))):
        # A line at a time: of larger products BLAS makes threads, which cost more than they save.
        sums[new] = areas @ values[first:last]
    return sums


@functools.lru_cache(maxsize=256)
def _cover(count: int, size: int) -> list[tuple[int, int, NDArray[np.float64]]]:
    """Which of `size` lines each new one of `count` covers, first to last, and how much of each."""
    found = []
    for new in range(count):
        first, last = new * size // count, -(-(new + 1) * size // count)
        edges = np.clip(np.arange(first, last + 1) * count, new * size, (new + 1) * size)
        found.append((first, last, np.diff(edges).astype(np.float64)))
    return found


def rounded_division(value: Whole, by: int) -> Whole:
    """To the nearest whole number, a half upwards."""
    return np.asarray((2 * value + by) // (2 * by))


def grey_of(pixels: Whole) -> Whole:
    """The luma of ITU-R BT.601, in thousandths, to the nearest whole number, a half upwards."""
    red, green, blue = (pixels[..., i] for i in range(3))
    return np.asarray((299 * red + 587 * green + 114 * blue + 500) // 1000)


def extent(mask: Mask, across: int) -> tuple[int, int]:
    """The first row (`across` 1) or column (0) with something in it, and the one after the last."""
    places = np.flatnonzero(mask.any(axis=across))
    return int(places[0]), int(places[-1]) + 1


def neighbourhood(image: NDArray[Any]) -> list[NDArray[Any]]:
    """Nine copies of an image (h, w), each moved by a pixel or not at all; 0 comes from outside."""
    padded = np.pad(image, 1)
    height, width = image.shape
    return [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]


def main_pieces(mask: Mask) -> Mask:
    """A mask's largest 8-connected piece, and others of at least PART of its size.

    None where more than MOST_PIECES are: that is no garment.
    """
    labels = pieces(mask)
    sizes = np.bincount(labels.ravel(), minlength=2)
    sizes[0] = 0
    main = sizes >= max(1, PART * sizes.max())
    return np.asarray(main[labels] & (main.sum() <= MOST_PIECES))


def pieces(mask: Mask) -> Whole:
    """A number above 0 for each 8-connected piece of a mask, 0 outside: int64, of its shape."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        # Each pixel takes the largest number around it, and then that which stands at its place.
        new = np.where(mask, np.maximum.reduce(neighbourhood(labels)), 0)
        new = np.where(mask, new.ravel()[np.maximum(new, 1) - 1], 0)
        if np.array_equal(new, labels):
            return labels
        labels = new
