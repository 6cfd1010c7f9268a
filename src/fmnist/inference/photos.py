"""Photos as models take them: a garment cut out in Fashion-MNIST's form, or the photo as it is.

The data set's makers took 51×73 thumbnails of garments on white (Xiao, Rasul & Vollgraf 2017,
section 2): trimmed, the longest edge brought to 28, centred, negated, grey. `garments` brings a
photo on any ground to that form.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fmnist.data.image_file import LARGEST_FILE, Bytes, PhotoError, decode
from fmnist.data.parts import grey, resized
from fmnist.data.splits import are_on_black
from fmnist.inference.garments import SIDE, cut_out, grey_of

if TYPE_CHECKING:
    from PIL import Image


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
    return prepare(read_photo(photo), shape, whole=whole)


def read_photo(photo: str | os.PathLike[str] | bytes) -> "Image.Image":
    """The image of a file, of a path or its bytes, as `decode` gives it; raises as it does.

    An error names the file. Raises PhotoError for one that cannot be read.
    """
    if isinstance(photo, bytes):
        return decode(photo)
    try:
        with Path(photo).open("rb") as file:
            return decode(file.read(LARGEST_FILE + 1))
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


def is_in_form(image: "Image.Image", shape: tuple[int, int], *, whole: bool) -> bool:
    """Whether an image has the data set's form already: its size, and black at its border."""
    if whole or image.size != shape[::-1]:
        return False
    return bool(are_on_black(np.asarray(image.convert("L"))[np.newaxis])[0])


def prepare(
    image: "Image.Image", shape: tuple[int, int] = (SIDE, SIDE), *, whole: bool = False
) -> Bytes:
    """A photo for a model: uint8 of `shape` (height, width).

    A garment is cut out, in Fashion-MNIST's form, which is 28×28 with 0 where there is background;
    an image that has that form already, see `is_in_form`, is taken as it is. With `whole` the photo
    stays as it is, grey, of that size, as `load_data` reads a set's images with a size. Raises
    PhotoError for a garment of another size than 28×28.
    """
    if why := misfit(shape, whole):
        raise PhotoError(why)
    if whole:
        pixels = np.asarray(image)
        return resized(pixels if pixels.ndim == 2 else grey(pixels[:, :, :3]), *shape)
    if is_in_form(image, shape, whole=whole):
        return raw(image, shape)
    return cut_out(np.asarray(image))
