"""One image file, decoded: what is damaged, cut short, too large or no image is refused."""

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist.data.png import is_whole
from fmnist.errors import FmnistError, to_install

if TYPE_CHECKING:
    from PIL import Image

Bytes = NDArray[np.uint8]
LARGEST_FILE = 32 * 2**20  # bytes
LARGEST_SIDE = 20_000  # pixels
LARGEST_IMAGE = 64 * 2**20  # pixels
MOST_SCANS = 100  # of a JPEG, of which a progressive one has ten; each goes over the whole image
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF")
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".avif", ".heic", ".heif"),
)  # of the files in a folder that are taken for images
ENOUGH = 1024  # pixels of a side: a larger JPEG is decoded to no less than this, which is quicker
# EXIF's orientation, and how Pillow's transpositions (by their number) undo it.
ORIENTATION = 0x0112
UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


class PhotoError(FmnistError):
    """A file that is not an image, is damaged, or is too large."""


def decode(content: bytes, largest: int = LARGEST_IMAGE, *, reduce: bool = True) -> "Image.Image":
    """The image in a file's bytes, upright as EXIF says, of mode L, RGB or RGBA, 8 bits a channel.

    Of several frames the first is decoded. With `reduce` a JPEG larger than a photo needs to be is
    decoded at a smaller size.
    Raises PhotoError for a file that is not in FORMATS, is damaged or cut short, or has more than
    LARGEST_FILE bytes, LARGEST_SIDE pixels a side or `largest` pixels. The size is checked before
    any pixel is decoded.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise PhotoError("expected an image, received an empty file")
    if len(content) > LARGEST_FILE:
        raise PhotoError(
            f"expected at most {LARGEST_FILE:,} bytes, received {len(content):,}; make it smaller"
        )
    # Within compressed data no byte 0xFF is followed by 0xDA, which begins a scan.
    if content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > MOST_SCANS:
        raise PhotoError(f"expected a JPEG of at most {MOST_SCANS} scans, received one with more")
    formats = (*FORMATS, _heif()) if content[4:8] == b"ftyp" and content[8:12] in HEIC else FORMATS
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            width, height = image.size
            if max(width, height) > LARGEST_SIDE or width * height > largest:
                raise PhotoError(
                    f"expected at most {LARGEST_SIDE:,} pixels a side and {largest:,} in all, "
                    f"received {width:,} × {height:,}; make it smaller"
                )
            if reduce:
                image.draft(None, (ENOUGH, ENOUGH))
            image.load()
            suspicious = bool(image.info.get("interlace")) or _ends_in_zeros(image)
            if image.format == "PNG" and suspicious and not is_whole(content):
                raise PhotoError("a damaged image (its pixels end before its last row)")
            turn = UPRIGHT.get(_orientation(image))
            plain = _eight_bits(image)
            return plain if turn is None else plain.transpose(Image.Transpose(turn))
    except PhotoError:
        raise
    except UnidentifiedImageError:
        raise PhotoError(f"expected an image ({', '.join(FORMATS)}), received none") from None
    except Image.DecompressionBombError:
        raise PhotoError(
            f"expected at most {largest:,} pixels, received far more; make it smaller"
        ) from None
    except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
        raise PhotoError(f"a damaged image ({error or type(error).__name__})") from None


def _heif() -> str:
    """The name of iPhones' format for Pillow, once its reader is there. Raises PhotoError."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise PhotoError(
            "expected another format than HEIC, which pillow-heif reads: convert the photo to "
            f"JPEG, or install it with: {to_install('heic')}"
        ) from None
    register_heif_opener()
    return "HEIF"


def _ends_in_zeros(image: "Image.Image") -> bool:
    """Whether the last row is zero, as what Pillow did not find in a file is."""
    return not np.asarray(image.crop((0, image.height - 1, image.width, image.height))).any()


def _orientation(image: "Image.Image") -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a damaged EXIF block, of a photo that is whole
        return 1


def _eight_bits(image: "Image.Image") -> "Image.Image":
    """As L, RGB or RGBA."""
    from PIL import Image

    if image.mode.startswith("I"):  # more than 8 bits, which convert() would cut off at 255
        values = np.asarray(image).astype(np.int64)
        least, most = int(values.min()), int(values.max())
        if least < 0 or most > 65535:
            raise PhotoError(f"expected grey values of 0 to 65535, received {least} to {most}")
        # A TIFF may hold 8 or 12 bits, as of a scanner or a microscope, in longer numbers.
        bits = 16 if image.format != "TIFF" or most > 4095 else 12 if most > 255 else 8
        return Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255):
            raise PhotoError("expected floats of 0 to 1 or 0 to 255, received others")
        scale = 255 if values.max() <= 1 else 1
        return Image.fromarray(np.round(values * scale).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return _converted(image, "RGBA")
    return _converted(image, "L" if image.mode in ("1", "L") else "RGB")


def _converted(image: "Image.Image", mode: str) -> "Image.Image":
    """The image in a mode; Pillow's `convert` would copy one that is in it already."""
    return image if image.mode == mode else image.convert(mode)
