"""Test-time augmentation: logits over one or several views of each image."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.scoring.figures import shifted

BATCH = 250  # images scored at once
ONE_PIXEL = ((-1, 0), (1, 0), (0, -1), (0, 1))
Forward = Callable[[NDArray[np.uint8]], NDArray[Any]]


def predict_logits(
    forward: Forward, images: NDArray[np.uint8], views: str = "one", batch: int = BATCH
) -> NDArray[np.float32]:
    """Logits, float32 (n, classes), of all raw uint8 images (n, h, w, 1).

    `views="flip"` averages the logits of each image and of its mirror image. `"shift"` gives these
    two half of the weight, and both shifted by a pixel up, down, left and right the other half.
    A shift repeats the border's values.
    """
    parts = []
    with np.errstate(all="ignore"):  # logits that are no numbers are the caller's to refuse
        for first in range(0, len(images), batch):
            part = images[first : first + batch]
            logits = _both_ways(forward, part) if views != "one" else forward(part)
            if views == "shift":
                moved = [_both_ways(forward, shifted(part, dy, dx)) for dy, dx in ONE_PIXEL]
                logits = (logits + sum(moved) / len(moved)) / 2
            parts.append(logits)
        return np.concatenate(parts).astype(np.float32)


def _both_ways(forward: Forward, images: NDArray[np.uint8]) -> NDArray[Any]:
    """The mean of the logits of images and of their mirror images."""
    return (forward(images) + forward(np.ascontiguousarray(images[:, :, ::-1]))) / 2
