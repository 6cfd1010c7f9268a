"""A photo of a garment in Fashion-MNIST's form, 28×28, as the data set's makers did it.

Their seven steps (Xiao, Rasul & Vollgraf 2017, section 2): a PNG; trim to the colour of the
corners; bring the longest edge to 28 by subsampling; sharpen; extend to 28×28, centred; negate;
grey. Their sources were 51×73 thumbnails on white. Here a photo of any size is first averaged down,
and its background, whatever its colour, is told from the border and replaced by white.

All of it is whole numbers, but for the background's fit, or says how it rounds, so that another
language gives the same pixels: see `prepare_pixels`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data.image_file import LARGEST_FILE, Bytes, PhotoError, decode
from fmnist.data.parts import grey, resized
from fmnist.inference.garment_cutout import Mask, Whole, find_garment, grey_of, rounded_division

if TYPE_CHECKING:
    from PIL import Image

SIDE = 28
WORK = 256  # pixels of the longest side on which the garment is looked for
THUMBNAIL = 56  # pixels of the garment's longest edge before subsampling


def prepare_photo(
    photo: str | os.PathLike[str] | bytes,
    shape: tuple[int, int] = (SIDE, SIDE),
    *,
    whole: bool = False,
) -> Bytes:
    """A photo of one garment in Fashion-MNIST's form: uint8, (28, 28), light on dark.

    `photo` is the path of an image file, or its bytes; `shape` and `whole` are as for `prepare`.
    Raises PhotoError for what `decode` refuses and for a file that cannot be read.
    """
    if isinstance(photo, bytes):
        return prepare(decode(photo), shape, whole=whole)
    try:
        with Path(photo).open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        return prepare(decode(content), shape, whole=whole)
    except OSError as error:
        raise PhotoError(f"{photo}: cannot be read ({error.strerror or error})") from None
    except PhotoError as error:
        raise PhotoError(f"{photo}: {error}") from None


def raw(image: "Image.Image", shape: tuple[int, int] = (SIDE, SIDE)) -> Bytes:
    """The pixels, uint8 of `shape` (height, width), of an image in the data set's form already.

    Transparency is dropped. Raises PhotoError for another size.
    """
    if image.size != (shape[1], shape[0]):
        raise PhotoError(
            f"expected {shape[1]} × {shape[0]} pixels, received {image.size[0]} × {image.size[1]}, "
            "of an image that is taken as it is"
        )
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels
    return grey_of(pixels[:, :, :3].astype(np.int64)).astype(np.uint8)


def misfit(shape: tuple[int, int], whole: bool) -> str | None:
    """Why photos cannot be prepared for a model of this shape, and what to do; None if they can."""
    if whole or shape == (SIDE, SIDE):
        return None
    return (
        f"expected a model of {SIDE} × {SIDE} pixels, as garments of photos become, found one of "
        f"{shape[1]} × {shape[0]}; give it images of that size as they are (--raw, ?raw=1, predict)"
    )


def prepare(
    image: "Image.Image", shape: tuple[int, int] = (SIDE, SIDE), *, whole: bool = False
) -> Bytes:
    """A photo for a model: uint8 of `shape` (height, width).

    A garment is cut out, in Fashion-MNIST's form, which is 28×28 with 0 where there is background.
    With `whole` the photo stays as it is, grey, of that size, as `load_data` reads a set's images
    with a size. Raises PhotoError for a garment of another size than 28×28.
    """
    if why := misfit(shape, whole):
        raise PhotoError(why)
    if whole:
        pixels = np.asarray(image)
        return resized(pixels if pixels.ndim == 2 else grey(pixels[:, :, :3]), *shape)
    return prepare_pixels(np.asarray(image))


def prepare_pixels(pixels: Bytes) -> Bytes:
    """As `prepare`, from uint8 pixels: grey (height, width), RGB or RGBA (height, width, 3 or 4).

    1. The photo is averaged over areas so that its longest side has at most WORK pixels.
    2. The garment is what is not background, see `find_garment`; everything else becomes white,
       and is cut off at the edges: the makers' trimming.
    3. Area average to a longest edge of at most THUMBNAIL; then every so-manyth row and column, to
       28; sharpening; extension to 28×28 by white; negation. Grey comes before the sharpening, so
       that there is one channel to do it to.

    An image that is all background gives zeros.
    """
    if pixels.ndim == 2:  # three equal channels
        pixels = np.repeat(pixels[:, :, np.newaxis], 3, axis=2)
    work = shrink(pixels, *_within(pixels.shape[0], pixels.shape[1], WORK))
    garment, mask = find_garment(work)
    if not mask.any():
        return np.zeros((SIDE, SIDE), np.uint8)
    (top, bottom), (left, right) = _extent(mask, 1), _extent(mask, 0)
    cut = np.where(mask, garment, 255)[top:bottom, left:right, np.newaxis]
    thumbnail = shrink(cut, *_within(cut.shape[0], cut.shape[1], THUMBNAIL))[:, :, 0]
    small = _sharpened(_subsampled(thumbnail))
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    height, width = small.shape
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas[top : top + height, left : left + width] = 255 - small
    return canvas


def _within(height: int, width: int, longest: int) -> tuple[int, int]:
    """The size (height, width) that has its longest side at most `longest`, by the same factor."""
    side = max(height, width)
    if side <= longest:
        return height, width
    return tuple(max(1, (2 * n * longest + side) // (2 * side)) for n in (height, width))  # type: ignore[return-value]


def shrink(pixels: NDArray[Any], rows: int, columns: int) -> Whole:
    """Whole numbers (height, width, channels) averaged over areas to (rows, columns, channels).

    Each new pixel is the mean of what it covers, with parts of pixels as their area, rounded to the
    nearest whole number, a half upwards. Not for enlarging.
    """
    height, width, channels = pixels.shape
    if (rows, columns) == (height, width):
        return pixels.astype(np.int64)
    # In units in which a pixel is `rows` high and a new one `height`, all areas are whole numbers,
    # and so are the sums, below 2**53: floating point is exact.
    across = np.empty((rows, width, channels))
    for row in range(rows):
        first, last, weights = _cover(row, rows, height)
        across[row] = np.tensordot(weights, pixels[first:last], 1)
    sums = np.empty((rows, columns, channels))
    for column in range(columns):
        first, last, weights = _cover(column, columns, width)
        sums[:, column] = np.tensordot(weights, across[:, first:last], (0, 1))
    return rounded_division(sums.astype(np.int64), height * width)


def _cover(new: int, count: int, size: int) -> tuple[int, int, NDArray[np.float64]]:
    """Which of `size` pixels the new one of `count` covers, first to last, and how much of each."""
    first, last = new * size // count, -(-(new + 1) * size // count)
    edges = np.arange(first, last + 1) * count
    return first, last, np.diff(np.clip(edges, new * size, (new + 1) * size)).astype(np.float64)


def _extent(mask: Mask, across: int) -> tuple[int, int]:
    """The first row (`across` 1) or column (0) with something in it, and the one after the last."""
    places = np.flatnonzero(mask.any(axis=across))
    return int(places[0]), int(places[-1]) + 1


def _subsampled(image: Whole) -> Whole:
    """The longest edge brought to 28 by leaving out (or repeating) rows and columns.

    Row i of n is row floor((i + 1/2) · height / n), and so are columns.
    """
    height, width = image.shape
    longest = max(height, width)
    rows, columns = (max(1, (2 * n * SIDE + longest) // (2 * longest)) for n in (height, width))
    y = (2 * np.arange(rows) + 1) * height // (2 * rows)
    x = (2 * np.arange(columns) + 1) * width // (2 * columns)
    return np.asarray(image[y][:, x])


def _sharpened(image: Whole) -> Whole:
    """image + 1/2 (image - blurred), clipped to 0 … 255.

    The blur is 3×3, 1 2 1 / 2 4 2 / 1 2 1 of 16; beyond the edge there is white. Halves go upwards.
    """
    padded = np.pad(image, 1, constant_values=255)
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    blurred = across[:-2] + 2 * across[1:-1] + across[2:]  # 16 times
    return np.asarray(np.clip((48 * image - blurred + 16) // 32, 0, 255))
