"""Photos: every mode is read, and what is hostile is refused."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fmnist.data import image_file, png
from fmnist.data.image_file import PhotoError, decode
from fmnist.inference import photos
from fmnist.inference.photos import prepare


def packed(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# decoding


def colours():
    """Four areas of one colour, 40×24, that tell the edges apart."""
    pixels = np.zeros((40, 24, 3), np.uint8)
    pixels[:20, :12], pixels[:20, 12:] = (250, 10, 10), (10, 250, 10)
    pixels[20:, :12], pixels[20:, 12:] = (10, 10, 250), (240, 240, 240)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGB", "PNG", {}),
        ("RGB", "JPEG", {"quality": 95, "subsampling": 0}),
        ("RGB", "BMP", {}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGB", "TIFF", {}),
        ("RGB", "GIF", {}),
        ("RGB", "PPM", {}),
        ("CMYK", "JPEG", {"quality": 95, "subsampling": 0}),
        ("CMYK", "TIFF", {}),
        ("P", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("YCbCr", "TIFF", {}),
    ],
)
def test_every_mode_gives_its_colours(mode, kind, options):
    picture = colours().quantize(8) if mode == "P" else colours().convert(mode)
    read = decode(packed(picture, kind, **options))
    assert read.mode in ("RGB", "RGBA")
    wanted = np.asarray(colours(), float)
    difference = np.abs(np.asarray(read.convert("RGB"), float) - wanted)[2:-2, 2:-2]
    assert np.median(difference) <= 6


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "LA"])
def test_grey_modes_keep_their_levels(mode):
    levels = np.repeat(np.array([[0, 255], [255, 0]], np.uint8), 8, 0).repeat(8, 1)
    if mode == "I;16":
        levels = np.where(levels > 0, 200, 100).astype(np.uint8)
        image = Image.fromarray(levels.astype(np.uint16) * 256 + 200)
    else:
        image = Image.fromarray(levels).convert(mode)
    read = decode(packed(image))
    assert read.mode == ("RGBA" if mode == "LA" else "L")
    assert np.array_equal(np.asarray(read.convert("L")), levels)


@pytest.mark.parametrize("kind", ["float", "float of 0 to 1", "int32", "12 bits", "16 bits"])
def test_tiff_keeps_its_levels_in_every_type_of_number(kind):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    stored = {
        "float": levels.astype(np.float32),
        "float of 0 to 1": levels.astype(np.float32) / 255,
        "int32": levels.astype(np.int32),
        "12 bits": levels.astype(np.uint16) * 16 + 9,
        "16 bits": levels.astype(np.uint16) * 256 + 9,
    }[kind]
    assert np.array_equal(np.asarray(decode(packed(Image.fromarray(stored), "TIFF"))), levels)


@pytest.mark.parametrize("value", [-1.0, 256.0, np.nan])
def test_tiff_of_other_numbers_is_refused(value):
    stored = np.zeros((4, 4), np.float32)
    stored[1, 1] = value
    with pytest.raises(PhotoError, match="expected floats of 0 to 1 or 0 to 255"):
        decode(packed(Image.fromarray(stored), "TIFF"))
    with pytest.raises(PhotoError, match="expected grey values of 0 to 65535, received -9 to 9"):
        decode(packed(Image.fromarray(np.array([[-9, 9]], np.int32)), "TIFF"))


def test_phones_formats(monkeypatch):
    wanted = np.asarray(colours(), float)
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    heif.from_pillow(colours()).save(stream, quality=95)
    for content in (packed(colours(), "AVIF", quality=95), stream.getvalue()):
        difference = np.abs(np.asarray(decode(content), float) - wanted)[2:-2, 2:-2]
        assert np.median(difference) <= 6
        with pytest.raises(PhotoError):
            decode(content[: len(content) // 2])
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=r"HEIC, .* convert the photo to JPEG, or install"):
        decode(stream.getvalue())


def test_a_transparent_palette_is_transparent():
    image = colours().quantize(8)
    image.info["transparency"] = image.getpixel((0, 0))
    alpha = np.asarray(decode(packed(image, transparency=image.getpixel((0, 0)))))[:, :, 3]
    assert alpha[0, 0] == 0
    assert alpha[0, -1] == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(orientation):
    # What a camera stores for each value: the upright picture, turned the other way.
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = colours() if stored is None else colours().transpose(stored)
    read = decode(packed(picture, exif=exif))
    assert np.array_equal(np.asarray(read), np.asarray(colours()))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_costs_no_photo():
    read = decode(packed(colours(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\xff\xff\xff"))
    assert read.size == colours().size


def test_only_the_first_frame_counts():
    frames = [Image.new("RGB", (9, 7), "red"), Image.new("RGB", (9, 7), "blue")]
    read = decode(packed(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert read.convert("RGB").getpixel((3, 3)) == (255, 0, 0)


def test_a_large_jpeg_is_decoded_smaller_but_large_enough():
    read = decode(packed(Image.new("RGB", (4400, 2600), "red"), "JPEG"))
    assert min(read.size) >= image_file.ENOUGH
    assert max(read.size) < 4400


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def many_scans(count):
    """A progressive JPEG whose last scan stands there `count` times more."""
    content = packed(colours(), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + content[-2:]


def bomb(width, height, rows=4):
    """A PNG that claims to be width × height, 1 bit, and is some kilobytes."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    data = zlib.compress(bytes((width // 8 + 1) * rows))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "an empty file"),
        (b"hello", "received none"),
        (b"<html>", "received none"),
        (b"\0\0\0\x1cftypheic", "received none"),
        (packed(colours())[:-40], "a damaged image"),
        (packed(colours(), "JPEG")[:400], "a damaged image"),
        (packed(colours(), "WEBP")[:60], "image"),
        (bomb(40_000, 40_000), "expected at most"),
        (bomb(9_000, 9_000), "received 9,000 × 9,000"),
        (bomb(30_000, 2), "received 30,000 × 2"),
        (bomb(0, 7), "image"),
        (many_scans(1000), "at most 100 scans"),
        (bytes(image_file.LARGEST_FILE + 1), "bytes, received"),
    ],
    ids=lambda value: value if isinstance(value, str) else len(value),
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_photo_is_refused_in_a_line(content, expected):
    with pytest.raises(PhotoError, match=expected) as error:
        decode(content)
    assert "\n" not in str(error.value)


def with_rows(content, change):
    """A PNG whose packed rows are those of another, changed; its chunks are in order."""
    place, rows, head = 8, b"", b""
    while place < len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"IDAT":
            rows += content[place + 8 : place + 8 + length]
        elif kind == b"IHDR":
            head = content[place + 8 : place + 8 + length]
        place += 12 + length

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = zlib.compress(change(zlib.decompress(rows)))
    return content[:8] + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1"])
def test_a_png_whose_pixels_end_early_is_refused(mode):
    """Pillow leaves the rows that are missing zero, and says nothing."""
    picture = Image.new(
        mode, (33, 280), 1 if mode == "1" else (250,) * len(mode) if len(mode) > 1 else 250
    )
    content = packed(picture)
    assert decode(with_rows(content, lambda rows: rows)).size == (33, 280)
    cut = with_rows(content, lambda rows: rows[: len(rows) * 100 // 280])
    with pytest.raises(PhotoError, match="pixels end before its last row"):
        decode(cut)
    assert decode(packed(Image.new(mode, (33, 280)))).size == (33, 280)  # black, and whole


def interlaced(width, height, size):
    """A grey PNG by Adam7 whose packed rows have `size` bytes."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = chunk(b"IDAT", zlib.compress(bytes(size)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rows + chunk(b"IEND", b"")


def test_an_interlaced_png_without_its_last_rows_is_refused():
    """Whose last row is of another pass, and there."""
    whole = next(n for n in range(60) if png.is_whole(interlaced(4, 5, n)))
    assert decode(interlaced(4, 5, whole)).size == (4, 5)
    with pytest.raises(PhotoError, match="pixels end before"):
        decode(interlaced(4, 5, whole - 5))


def test_the_rows_of_an_interlaced_png_are_counted():
    """Of 5×3 pixels of one byte Adam7's passes have 2, 2, 0, 2, 4, 6 and 6 bytes."""
    assert png.is_whole(interlaced(5, 3, 22))
    assert not png.is_whole(interlaced(5, 3, 21))


def test_a_limit_of_ones_own():
    assert decode(packed(colours()), largest=40 * 24).size == (24, 40)
    with pytest.raises(PhotoError, match="at most"):
        decode(packed(colours()), largest=40 * 24 - 1)


HEADS = [
    packed(colours(), kind)[:n]
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF")
    for n in (12, 60, 200)
]


@given(st.sampled_from([b"", *HEADS]), st.binary(max_size=300))
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_are_an_image_or_refused(head, rest):
    try:
        image = decode(head + rest)
    except PhotoError:
        return
    assert prepare(image).shape == (28, 28)


def test_raw_takes_the_pixels_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    assert np.array_equal(photos.raw(decode(packed(Image.fromarray(pixels)))), pixels)
    coloured = Image.fromarray(pixels).convert("RGBA")
    assert np.array_equal(photos.raw(decode(packed(coloured))), pixels)
    with pytest.raises(PhotoError, match="expected 28 × 28 pixels, received 24 × 40"):
        photos.raw(colours())
