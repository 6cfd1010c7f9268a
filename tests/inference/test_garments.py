"""Garments are cut out of photos: the arithmetic, and what the real network finds."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

import fmnist
from fmnist.errors import DataError
from fmnist.inference import garments
from fmnist.inference.garments import Look, cut_out, in_form, look, shrink


def test_areas_are_averaged_as_by_hand():
    assert shrink(np.array([[[0], [3], [10]]]), 1, 2).ravel().tolist() == [1, 8]  # 1, 23/3
    assert shrink(np.array([[[1], [2]]]), 1, 1).item() == 2  # a half goes upwards
    pixels = np.random.default_rng(0).integers(0, 256, (60, 45, 3), dtype=np.uint8)
    by_blocks = pixels.reshape(20, 3, 15, 3, 3).mean(axis=(1, 3))
    assert np.array_equal(shrink(pixels, 20, 15), np.floor(by_blocks + 0.5))
    in_parts = pixels.repeat(44, 0).repeat(31, 1).reshape(44, 60, 31, 45, 3).mean(axis=(1, 3))
    assert np.array_equal(shrink(pixels, 44, 31), np.floor(in_parts + 0.5))
    assert np.array_equal(shrink(pixels, 120, 90), pixels.repeat(2, 0).repeat(2, 1))


def test_pieces_are_those_of_scipy():
    from scipy import ndimage

    snake = np.zeros((21, 21), bool)
    snake[::2] = True
    snake[1::4, -1] = snake[3::4, 0] = True  # one piece of 230 pixels, a pixel wide
    masks = [np.random.default_rng(i).random((40, 50)) < 0.35 for i in range(4)]
    for mask in (*masks, snake, np.zeros((5, 5), bool), np.ones((5, 5), bool)):
        ours = garments.pieces(mask)
        theirs, count = ndimage.label(mask, np.ones((3, 3)))
        pairs = set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))
        assert len(pairs) == count + (mask.size > mask.sum())  # one to one
        assert len({ours for ours, _ in pairs}) == len(pairs)


def blocks(*sizes):
    """Squares of these sides in a row, with a gap between them: a mask (64, 64)."""
    mask, left = np.zeros((64, 64), bool), 1
    for size in sizes:
        mask[10 : 10 + size, left : left + size] = True
        left += size + 2
    return mask


def test_small_pieces_are_no_part_and_many_are_no_garment():
    assert garments.main_pieces(blocks(20, 4)).sum() == 400  # 16 of 400 are less than 15 %
    assert garments.main_pieces(blocks(20, 12)).sum() == 544
    assert garments.main_pieces(blocks(9, 9, 9, 9)).sum() == 4 * 81
    assert not garments.main_pieces(blocks(9, 9, 9, 9, 9)).any()


def seen(mask, level=100):
    return Look(np.full((*mask.shape, 3), level, np.uint8), mask.astype(np.float32))


def test_the_form_is_the_data_sets():
    """56 high and 28 wide: 28 high and 14 wide, in the middle, negated, 0 around."""
    mask = np.zeros((64, 64), bool)
    mask[2:58, 30:58] = True
    made = in_form(seen(mask))
    assert (made[:, 7:21] == 155).all()
    assert not made[:, :7].any()
    assert not made[:, 21:].any()
    assert not in_form(seen(np.zeros((64, 64), bool))).any()
    half = in_form(Look(seen(mask).pixels, np.where(mask, np.float32(0.6), 0).astype(np.float32)))
    assert (half[2:-2, 9:19] == np.floor(155 * 0.7 + 0.5)).all()  # an opacity of 2 · 0.6 - 0.5


# The real network, on what is drawn here.


@pytest.fixture(scope="module")
def shirt():
    """A T-shirt of Fashion-MNIST's training images as RGB with opacity, 84×84."""
    try:
        train = fmnist.load_data().train
    except DataError as error:
        pytest.skip(f"Fashion-MNIST could not be had: {error}")
    image = Image.fromarray(train.images[np.flatnonzero(train.labels == 0)[1], :, :, 0])
    grey = image.resize((84, 84), Image.Resampling.BICUBIC)
    opaque = grey.point(lambda value: 255 * (value > 12))
    colours = [grey.point(lambda value, top=top: top - value * top // 300) for top in (70, 90, 200)]
    return Image.merge("RGBA", [*colours, opaque])


def laid(shirt, size, ground, at=None, turn=0):
    """A photo (height, width) of the shirt on a ground: a colour, or a function that draws it."""
    height, width = size
    picture = Image.new("RGB", (width, height), ground if isinstance(ground, tuple) else "white")
    if callable(ground):
        ground(ImageDraw.Draw(picture), width, height)
    turned = shirt.rotate(turn, expand=True)
    place = at or ((width - turned.width) // 2, (height - turned.height) // 2)
    picture.paste(turned, place, turned)
    mask = Image.new("L", (width, height))
    mask.paste(turned.getchannel("A"), place)
    return np.asarray(picture), np.asarray(mask)


def planks(draw, width, height):
    for x in range(0, width, 30):
        draw.rectangle((x, 0, x + 30, height), (190 + x % 40, 150 + x % 40, 110))
        draw.line((x, 0, x, height), (110, 80, 50), 2)


def tiles(draw, width, height):
    draw.rectangle((0, 0, width, height), (215, 214, 210))
    for x in range(0, max(width, height), 40):
        draw.line((x, 0, x, height), (150, 150, 150), 2)
        draw.line((0, x, width, x), (150, 150, 150), 2)


def wall_and_floor(draw, width, height):
    draw.rectangle((0, 0, width, height), (235, 233, 228))
    draw.rectangle((0, height * 7 // 10, width, height), (170, 140, 110))


GROUNDS = {
    "white": (255, 255, 255),
    "grey": (205, 205, 205),
    "red": (170, 40, 40),
    "planks": planks,
    "tiles": tiles,
    "wall and floor": wall_and_floor,
}


@pytest.mark.data
@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("size", [(160, 120), (110, 200)])
def test_a_garment_is_found_on_every_ground(shirt, ground, size):
    photo, mask = laid(shirt, size, GROUNDS[ground])
    wanted = in_form(Look(photo, (mask / 255).astype(np.float32)))
    made = cut_out(photo)
    both, either = ((made > 0) & (wanted > 0)).sum(), ((made > 0) | (wanted > 0)).sum()
    assert both / either > 0.85
    inside = (made > 0) & (wanted > 0)
    assert np.abs(made.astype(int) - wanted)[inside].mean() < 20


@pytest.mark.data
def test_what_is_seen_depends_neither_on_the_place_nor_on_the_size_of_the_photo(shirt):
    photo, _ = laid(shirt, (200, 150), (230, 228, 225))
    larger = np.asarray(Image.fromarray(photo).resize((900, 1200), Image.Resampling.BICUBIC))
    moved, _ = laid(shirt, (200, 150), (230, 228, 225), at=(10, 100))
    first = cut_out(photo) > 0
    for other in (cut_out(larger) > 0, cut_out(moved) > 0):
        assert (first & other).sum() / (first | other).sum() > 0.9


@pytest.mark.data
def test_a_grey_photo_is_seen_as_its_copy_in_colour(shirt):
    photo, _ = laid(shirt, (160, 120), planks)
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    made = cut_out(grey)
    assert made.any()
    assert np.array_equal(made, cut_out(np.repeat(grey[:, :, np.newaxis], 3, axis=2)))


def test_where_the_border_is_transparent_the_garment_is_what_is_opaque():
    pixels = np.zeros((120, 100, 4), np.uint8)
    pixels[30:86, 50:78] = (100, 100, 100, 255)
    made = cut_out(pixels)
    assert np.abs(made[1:-1, 8:20].astype(int) - 155).max() == 0
    assert not made[:, :6].any()
    assert not made[:, 22:].any()


def test_beyond_a_photo_there_is_no_garment():
    """A garment that the frame cuts off ends there, although the edge is repeated for the look."""
    pixels = np.full((100, 60, 3), 235, np.uint8)
    pixels[20:100, 12:48] = (40, 60, 120)
    opacity = look(pixels).opacity > 0.5
    first_rows = np.flatnonzero(opacity.any(axis=1))
    assert first_rows[-1] < 63 or not opacity[-1].any()


def test_nothing_but_ground_gives_nothing():
    assert not cut_out(np.full((90, 70, 3), 255, np.uint8)).any()
    assert not cut_out(np.zeros((9, 9, 4), np.uint8)).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (3, 700), (28, 28), (5, 5, 4)])
def test_odd_sizes_are_prepared(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert cut_out(pixels).shape == (28, 28)
