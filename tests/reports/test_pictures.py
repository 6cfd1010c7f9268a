"""Pictures in a page: what a data URI holds, and what colours say."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from fmnist.reports import pictures


def pixels_of(uri):
    """The pixels of a data URI, by Pillow."""
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body, validate=True))))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (1, 1)])
def test_a_png_holds_every_pixel(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(
        pixels_of(pictures.png_uri(pixels)),
        pixels.reshape(shape[:2] + shape[3:]) if shape[2:] == (1,) else pixels,
    )
    flipped = pixels[:, ::-1]  # which lies in memory another way round
    assert np.array_equal(pixels_of(pictures.png_uri(flipped)).reshape(shape), flipped)


def test_an_overlay_is_red_where_something_is_lost_and_blue_where_it_is_gained():
    image = np.full((1, 3, 1), 100, np.uint8)
    red, grey, blue = pictures.overlay(image, np.array([[0.5, 0.0, -0.25]]))[0].astype(int)
    assert red[0] > red[2] + 60
    assert blue[2] > blue[0] + 20
    assert len(set(grey.tolist())) == 1
    faint = pictures.overlay(image, np.array([[0.005, 0.0, 0.0]]))[0, 0].astype(int)
    assert abs(faint - grey).max() < abs(red - grey).max() / 5  # noise is not blown up


def test_filters_are_grey_where_they_are_zero():
    kernel = np.zeros((3, 2, 1, 3))
    kernel[0, 1, 0, 0], kernel[2, 0, 0, 0], kernel[1, 1, 0, 1] = 2, -1, -0.01
    tiles = pictures.filter_tiles(kernel)
    assert tiles.shape == (3, 3, 2)
    assert (tiles[0, 0, 1], tiles[0, 2, 0], tiles[1, 1, 1]) == (255, 64, 0)
    assert set(tiles[2].ravel().tolist()) == {128}
