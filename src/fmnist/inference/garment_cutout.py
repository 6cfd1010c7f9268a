"""Finds the garment in a photo by plain image processing on whole numbers.

Nothing is learnt here. The background is told from the border of the photo, so a garment that fills
the photo, or has the background's colour, is not found well.
"""

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
Mask = NDArray[np.bool_]
CLOSE = 22  # the makers' "close to the colour of the corner pixels": 5 % of the RGB cube's diagonal
SPREAD = 3  # or this many times the background's own spread, if that is more
SHADE, STEP = 70, 3  # a soft shadow: how far from the background, and how far a pixel from the next
LIGHT = 170  # grey of a background that is taken for white
ROUNDS = 4  # of fitting a background and leaving out what is far from it


def find_garment(work: Whole) -> tuple[Whole, Mask]:
    """The grey values of an image (height, width, 3 or 4 channels), and where the garment is.

    Where the border is transparent, the garment is what is opaque. Elsewhere the background is a
    smooth surface in each channel, fitted to the border, and where that leaves both lower corners
    unexplained, as with a floor below a wall, another fitted to the rest of the border. What is
    further than CLOSE from both is garment, but for soft shadows: pixels up to SHADE from it that
    are reached from the background in small steps. Of it, the largest connected piece counts, and
    those near its size, with small holes filled, on a light background all of them. A light
    background is taken for white: grey values are divided by its own.
    """
    if work.shape[2] == 4:
        alpha = work[:, :, 3]
        if np.mean(alpha[_border(*alpha.shape)]) < 128:
            grey = grey_of(work[:, :, :3]) * alpha + 255 * (255 - alpha)
            return rounded_division(grey, 255), main_pieces(alpha >= 128)
        work = work[:, :, :3]
    surfaces, noise = _surfaces(work)
    squared = np.min([((work - each) ** 2).sum(axis=2) for each in surfaces], axis=0)
    mask = squared > max(CLOSE**2, SPREAD**2 * noise)
    grey, ground = grey_of(work), grey_of(surfaces[0])
    light = ground >= LIGHT
    darker = surfaces[0] - work
    even = darker.max(axis=2) - darker.min(axis=2) <= CLOSE
    shaded = light & even & (grey < ground) & (squared <= SHADE**2)
    mask = _without_shadows(mask, shaded, grey)
    if len(surfaces) > 1:  # and a line between them, which is neither
        mask = _opened(mask)
    mask = _filled(main_pieces(mask), bool(light.mean() > 0.5))
    whitened = np.minimum(255, rounded_division(255 * grey, np.maximum(ground, 1)))
    return np.where(light, whitened, grey), mask


def _surfaces(work: Whole) -> tuple[list[Whole], int]:
    """One or two backgrounds, whole numbers (height, width, channels), and the spread about them.

    The spread is the median squared distance of the first one's border pixels.
    """
    rows, columns, _ = work.shape
    border = _border(rows, columns)
    first, noise, explained = _fit(work, border)
    band = 2 * _band(rows, columns)
    rest = border & ~explained
    left, right = np.s_[-band:, :band], np.s_[-band:, -band:]
    # One corner alone, or an upper one, is rather a garment that reaches there.
    if any(2 * rest[corner].sum() <= border[corner].sum() for corner in (left, right)):
        return [first], noise
    odd = np.zeros((rows, columns), bool)
    odd[left] = odd[right] = True
    return [first, _fit(work, rest, odd & rest)[0]], noise


def _fit(work: Whole, border: Mask, start: Mask | None = None) -> tuple[Whole, int, Mask]:
    """A surface of second degree for each channel, fitted to the pixels of `border`.

    It begins with the median colour of `start` and leaves out, ROUNDS times, what is far from it.
    In each round it is rounded to whole numbers, a half upwards. Gives it, the median squared
    distance of the pixels that were left in, and which of `border` it explains.
    """
    rows, columns, _ = work.shape
    y = ((2 * np.arange(rows) - (rows - 1)) / max(1, rows - 1))[:, np.newaxis] + np.zeros(columns)
    x = (2 * np.arange(columns) - (columns - 1)) / max(1, columns - 1) + np.zeros((rows, 1))
    terms = np.stack([np.ones((rows, columns)), x, y, x * x, x * y, y * y], axis=2)
    surface = np.broadcast_to(_median(work[border if start is None else start]), work.shape)
    noise = 0
    for _ in range(ROUNDS):
        far = np.abs(work - surface).max(axis=2)
        kept = border & (far <= max(8, 3 * int(_median(far[border]))))
        squared = ((work - surface) ** 2).sum(axis=2)
        if not kept.any():
            break
        known = terms[kept]
        # A little of a ridge, so that there is one answer also where one edge is left.
        normal = known.T @ known + np.diag([0.0] + [1e-3 * len(known)] * 5)
        values = terms @ np.linalg.solve(normal, known.T @ work[kept])
        surface = np.floor(np.clip(values, 0, 255) + 0.500001).astype(np.int64)
        squared = ((work - surface) ** 2).sum(axis=2)
        noise = int(_median(squared[kept]))
    return surface, noise, border & (squared <= max(CLOSE**2, SPREAD**2 * noise))


def _band(rows: int, columns: int) -> int:
    return max(1, min(rows, columns) // 16)


def _border(rows: int, columns: int) -> Mask:
    """The outermost pixels: a sixteenth of the shorter side on each edge, at least one."""
    band = _band(rows, columns)
    border = np.ones((rows, columns), bool)
    border[band : rows - band, band : columns - band] = False
    return border


def _median(values: Whole) -> Whole:
    """The upper median of each column."""
    return np.asarray(np.sort(values, axis=0)[len(values) // 2])


def _without_shadows(mask: Mask, shaded: Mask, grey: Whole) -> Mask:
    """A mask without `shaded` pixels that are reached from outside it in steps of at most STEP."""
    rows, columns = mask.shape
    outside, value = np.pad(~mask, 1), np.pad(grey, 1)
    while True:
        reached = np.zeros_like(mask)
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
            there = np.s_[dy : dy + rows, dx : dx + columns]
            reached |= outside[there] & (np.abs(value[there] - grey) <= STEP)
        new = reached & shaded & ~outside[1:-1, 1:-1]
        if not new.any():
            return ~outside[1:-1, 1:-1]
        outside[1:-1, 1:-1] |= new


def _opened(mask: Mask) -> Mask:
    """A mask without what is less than three pixels thin."""
    eroded = np.logical_and.reduce(_neighbourhood(mask))
    return np.asarray(np.logical_or.reduce(_neighbourhood(eroded)))


def _neighbourhood(mask: Mask) -> list[Mask]:
    """The 3×3 pixels around each, those beyond the edge being none, as nine masks."""
    rows, columns = mask.shape
    padded = np.pad(mask, 1)
    return [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]


def _filled(mask: Mask, all_of_them: bool) -> Mask:
    """A mask with its holes filled: all, or those below a fiftieth of its size."""
    holes, number = _pieces(~mask, 4)
    sizes = np.bincount(holes.reshape(-1), minlength=number + 1)
    outer = np.zeros(number + 1, bool)
    for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        outer[edge] = True
    fill = ~outer & (all_of_them | (sizes * 50 <= mask.sum()))
    fill[0] = False
    return np.asarray(mask | fill[holes])


def main_pieces(mask: Mask) -> Mask:
    """The largest 8-connected piece of a mask, and the others of at least a tenth of its size."""
    pieces, number = _pieces(mask, 8)
    sizes = np.bincount(pieces.reshape(-1), minlength=number + 1)
    sizes[0] = 0
    keep = sizes * 10 >= max(1, sizes.max())
    return np.asarray(keep[pieces])


def _pieces(mask: Mask, neighbours: int) -> tuple[NDArray[np.intp], int]:
    """A number from 1 for each connected piece, (height, width), 0 outside; and how many."""
    rows, columns = mask.shape
    w = columns + 2  # a frame of nothing around it
    steps = (-w, -1, 1, w, -w - 1, -w + 1, w - 1, w + 1)[:neighbours]
    waiting = bytearray(np.pad(mask, 1).tobytes())
    label = np.zeros((rows + 2) * w, np.intp)
    number = 0
    start = waiting.find(1)
    while start >= 0:
        number += 1
        waiting[start] = 0
        found = [start]
        for place in found:
            for step in steps:
                if waiting[place + step]:
                    waiting[place + step] = 0
                    found.append(place + step)
        label[found] = number
        start = waiting.find(1, start + 1)
    return label.reshape(rows + 2, w)[1:-1, 1:-1], number


def grey_of(colour: Whole) -> Whole:
    """Luma of ITU-R BT.601 in thousandths, a half upwards: (height, width) of 3 channels."""
    return (299 * colour[:, :, 0] + 587 * colour[:, :, 1] + 114 * colour[:, :, 2] + 500) // 1000


def rounded_division(values: Whole, by: int | Whole) -> Whole:
    """Whole numbers from 0 divided, rounded to the nearest, a half upwards."""
    return (2 * values + by) // (2 * by)
