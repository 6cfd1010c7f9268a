"""Which regions of an image an answer rests on: cover them in turn and see what it loses."""

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import UsageError
from fmnist.scoring.figures import probabilities
from fmnist.scoring.views import BATCH, Forward, predict_logits


def occlusion_map(
    forward: Forward,
    image: NDArray[np.uint8],
    grey: int,
    *,
    label: int | None = None,
    patch: int | None = None,
    stride: int | None = None,
    batch: int = BATCH,
) -> NDArray[np.float32]:
    """What a class' probability loses where a square of the image is grey (Zeiler & Fergus 2014).

    Args:
        forward: from uint8 images (n, height, width, 1) to logits (n, classes), as
            `scoring.evaluate.compile_forward` makes one.
        image: uint8 (height, width, 1).
        grey: the value of the square, 0 to 255; the mean of the training images is usual.
        label: the class that is watched; by default the one that `forward` gives the image.
        patch: the square's side in pixels, by default a quarter of the image's shorter side.
        stride: pixels from one square to the next, by default a fourteenth of that side.
        batch: images at once.

    Returns float32 (height, width): at each pixel the probability of the whole image less that with
    the square around this pixel (the middle of the nearest one), from -1 to 1. The higher, the
    more the class rests on the region; below 0 speaks against it. Over the edge squares are cut.

    Raises UsageError for an image or a class that cannot be.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 1 or not image.size:
        raise UsageError(
            f"image: expected uint8 of shape (height, width, 1), received {image.dtype} of shape "
            f"{image.shape}"
        )
    height, width = image.shape[:2]
    side = min(height, width)
    patch = patch or max(1, side // 4)
    stride = stride or max(1, side // 14)
    rows, columns = (np.arange(0, length, stride) + stride // 2 for length in (height, width))
    covered = np.repeat(image[np.newaxis], len(rows) * len(columns), axis=0)
    for each, (y, x) in zip(covered, ((y, x) for y in rows for x in columns), strict=True):
        top, left = max(0, y - patch // 2), max(0, x - patch // 2)
        each[top : y - patch // 2 + patch, left : x - patch // 2 + patch] = grey
    every = np.concatenate([image[np.newaxis], covered])
    whole, *rest = probabilities(predict_logits(forward, every, batch=batch))
    watched = int(whole.argmax()) if label is None else label
    if not 0 <= watched < len(whole):
        raise UsageError(f"label: expected 0 to {len(whole) - 1}, received {label}")
    lost = whole[watched] - np.array(rest)[:, watched]
    grid = lost.reshape(len(rows), len(columns))
    pixels = grid.repeat(stride, axis=0).repeat(stride, axis=1)[:height, :width]
    return np.asarray(pixels, np.float32)
