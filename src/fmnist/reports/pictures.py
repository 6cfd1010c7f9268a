"""Pixels as pictures for a page: data URIs that need no file beside it."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOST, GAINED = (214, 72, 32), (44, 123, 190)  # red, green, blue of a map's two ends


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """A `data:image/png` URI of uint8 pixels: grey (height, width[, 1]) or RGB (height, width, 3).

    One pixel of the picture each; CSS' `image-rendering: pixelated` shows them enlarged.
    """
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def overlay(image: NDArray[np.uint8], lost: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """An image (height, width, 1) in faint grey under a map (height, width), as RGB.

    Red where the map is above 0, blue where it is below, the stronger the nearer to the map's own
    largest value, or to 0.05 where no value is as large.
    """
    strength = np.clip(np.abs(lost) / max(0.05, float(np.abs(lost).max())), 0, 1)[..., np.newaxis]
    colour = np.where(lost[..., np.newaxis] > 0, LOST, GAINED)
    faint = 0.6 * image.astype(float) + 20
    return np.asarray(np.round((1 - 0.8 * strength) * faint + 0.8 * strength * colour), np.uint8)


def filter_tiles(kernel: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """A kernel (height, width, 1, filters) as grey tiles (filters, height, width).

    0 is mid-grey; white and black are a filter's largest absolute weight.
    """
    tiles = np.moveaxis(kernel[:, :, 0], -1, 0)
    largest = np.maximum(np.abs(tiles).max(axis=(1, 2), keepdims=True), 1e-12)
    return np.asarray(np.round(127.5 + 127.5 * tiles / largest), np.uint8)
