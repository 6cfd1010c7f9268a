"""The files of a data set: read strictly, and compared with what is pinned.

An IDX file is 2 zero bytes, a type byte, the number of dimensions, each dimension as a big-endian
32-bit number, then the values. Here only unsigned bytes in 1 dimension (labels) or 3 (images) are
taken, plain or in one gzip member, which the content tells, not the name.

Fashion-MNIST is pinned by the SHA-256 of its four decompressed files, because its distributors
compress them anew. The pins hold for the makers' own release of 31 August 2017: with a gzip header
of that day (10:50:06 and 10:50:27 UTC) the pinned contents give the MD5 sums in the makers' README.
"""

import hashlib
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from fmnist.errors import DataError

Bytes = npt.NDArray[np.uint8]


class Pin(NamedTuple):
    """What one file must be: its content's SHA-256 and size, and the size of the makers' gzip."""

    sha256: str
    size: int
    packed_size: int


# The small files come first: a mirror that serves something else is left after 5 KB.
PINS: dict[str, Pin] = {
    "t10k-labels-idx1-ubyte": Pin(
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 10_008, 5_148
    ),
    "train-labels-idx1-ubyte": Pin(
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 60_008, 29_515
    ),
    "t10k-images-idx3-ubyte": Pin(
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 7_840_016, 4_422_102
    ),
    "train-images-idx3-ubyte": Pin(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 47_040_016, 26_421_880
    ),
}
# Contents of plain MNIST, which has been served under these same names.
MNIST_SHA256 = {
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
}
MNIST_CLASS_COUNTS = {
    (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}


SIZE_LIMIT = 4 << 30  # bytes of one decompressed file; a larger promise is refused unread
SIDE_LIMIT = 1024  # pixels of an image's height or width
PIECE = 1 << 20  # bytes decompressed at a time: all that a lying file can cost
IDX_TYPES = {9: "signed byte", 11: "short", 12: "int", 13: "float", 14: "double"}


@dataclass(frozen=True)
class IdxFile:
    """One file read: `values` uint8, (n,) labels or (n, height, width) images, read-only."""

    path: Path
    values: Bytes
    sha256: str  # of the decompressed file, header included


def read_idx(
    path: str | os.PathLike[str], dimensions: int | None = None, *, limit: int = SIZE_LIMIT
) -> Bytes:
    """The values of an IDX file, plain or gzip: uint8, (n,) or (n, height, width), read-only.

    `dimensions` is 1 for labels, 3 for images, None for either; `limit` is the most bytes that the
    decompressed file may have. Memory grows with what has really arrived, never with what a header
    promises, and reading stops at the first byte too many. Raises DataError for anything else than
    one whole, exact file.
    """
    return read_file(Path(path), dimensions, limit).values


def read_file(path: Path, dimensions: int | None, limit: int = SIZE_LIMIT) -> IdxFile:
    """As `read_idx`, with the hash of what was read."""
    if not path.is_file():
        raise DataError(f"{path}: expected an IDX file, found none; check the folder's name")
    content, digest = bytearray(), hashlib.sha256()
    shape: tuple[int, ...] | None = None
    size = 0
    try:
        with path.open("rb") as stream:
            for piece in _pieces(path, stream):
                content += piece
                digest.update(piece)
                if shape is None:
                    shape = _promised_shape(path, content, dimensions)
                    if shape is None:
                        continue
                    size = 4 + 4 * len(shape) + math.prod(shape)
                    if size > limit:
                        raise DataError(
                            f"{path}: promises {size:,} bytes, expected at most {limit:,}; "
                            "it is not the data set that was asked for, or damaged"
                        )
                if len(content) > size:
                    raise DataError(
                        f"{path}: expected {size:,} bytes from its header {shape}, received more; "
                        "fetch the file anew"
                    )
    except zlib.error as error:
        raise DataError(f"{path}: damaged gzip file ({error}); fetch it anew") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    if shape is None or len(content) < size:
        raise DataError(
            f"{path}: expected {f'{size:,} bytes' if size else 'a header'}, "
            f"received {len(content):,} bytes: cut short; fetch the file anew"
        )
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
    values.flags.writeable = False
    return IdxFile(path, values, digest.hexdigest())


def _pieces(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    """The content in pieces of at most PIECE bytes, decompressed where it is gzip."""
    gzipped = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    if not gzipped:
        yield from iter(lambda: stream.read(PIECE), b"")
        return
    unpacker = zlib.decompressobj(wbits=31)
    while not unpacker.eof:
        packed = unpacker.unconsumed_tail or stream.read(1 << 16)
        if not packed:
            raise DataError(f"{path}: the gzip file is cut short; fetch it anew")
        yield unpacker.decompress(packed, PIECE)
    if unpacker.unused_data or stream.read(1):
        raise DataError(f"{path}: expected one gzip member, received more after it; fetch it anew")


def _promised_shape(
    path: Path, content: bytes | bytearray, dimensions: int | None
) -> tuple[int, ...] | None:
    """The dimensions in the header, checked; None while it has not arrived in full."""
    if len(content) < 4:
        return None
    wanted = (dimensions,) if dimensions else (1, 3)
    kind, rank = content[2], content[3]
    if content[:2] != b"\0\0" or kind not in {8, *IDX_TYPES}:
        page = " (a web page?)" if content.lstrip()[:1] == b"<" else ""
        raise DataError(
            f"{path}: expected an IDX file (00 00 08 …), received {content[:4].hex(' ')}{page}"
        )
    if kind != 8:
        raise DataError(
            f"{path}: expected IDX values of type unsigned byte (08), received {IDX_TYPES[kind]} "
            f"({kind:02x}); convert them"
        )
    if rank not in wanted:
        raise DataError(
            f"{path}: expected {' or '.join(map(str, wanted))} dimensions (labels have 1, images "
            f"3), received {rank}; are two files exchanged?"
        )
    if len(content) < 4 + 4 * rank:
        return None
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank))
    if 0 in shape or any(side > SIDE_LIMIT for side in shape[1:]):
        raise DataError(
            f"{path}: expected at least one value and at most {SIDE_LIMIT} × {SIDE_LIMIT} pixels, "
            f"received dimensions {shape}"
        )
    return shape


def find_idx(folder: Path) -> dict[str, Path]:
    """The files of an IDX set in `folder`, by name without .gz.

    Where a file is there with and without .gz, the .gz is taken, for its check sum guards it.
    """
    found: dict[str, Path] = {}
    for name in PINS:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                found.setdefault(name, path)
    return found


def read_set(folder: Path, limits: Mapping[str, Pin] | None = None) -> dict[str, IdxFile]:
    """The four IDX files in `folder`, by name without .gz; counts and image sizes agree.

    With `limits` no file may be larger than its pin. Raises DataError.
    """
    found = find_idx(folder)
    if missing := [name for name in PINS if name not in found]:
        raise DataError(f"{folder}: expected four IDX files, missing {', '.join(missing)} (or .gz)")
    files = {
        name: read_file(
            path, 3 if "images" in name else 1, limits[name].size if limits else SIZE_LIMIT
        )
        for name, path in found.items()
    }
    for split in ("train", "t10k"):
        images, labels = (files[f"{split}-{kind}-ubyte"] for kind in ("images-idx3", "labels-idx1"))
        if len(images.values) != len(labels.values):
            raise DataError(
                f"{labels.path}: expected {len(images.values):,} labels, one an image, received "
                f"{len(labels.values):,}; the files are of different sets"
            )
    train, test = (files[f"{s}-images-idx3-ubyte"].values.shape[1:] for s in ("train", "t10k"))
    if train != test:
        raise DataError(
            f"{folder}: expected images of one size, received {train[0]} × {train[1]} pixels in "
            f"train and {test[0]} × {test[1]} in test"
        )
    return files


def difference(files: Mapping[str, IdxFile], pins: Mapping[str, Pin] = PINS) -> str | None:
    """None if `files` (all four or some) are as pinned; else what they are instead, in one line."""
    wrong = [name for name, file in files.items() if file.sha256 != pins[name].sha256]
    if not wrong:
        return None
    if any(file.sha256 in MNIST_SHA256 or _has_mnist_labels(file) for file in files.values()):
        return "this is plain MNIST (handwritten digits) under Fashion-MNIST's file names"
    if len(files) == len(pins) and _is_old_release(files):
        return (
            "this is the Fashion-MNIST release of before 31 August 2017, with duplicates and test "
            "images in train (scores come out about 0.4 points too high)"
        )
    name = wrong[0]
    return (
        f"unknown content: {name} has sha256 {files[name].sha256[:16]}…, "
        f"expected {pins[name].sha256[:16]}…"
    )


def _has_mnist_labels(file: IdxFile) -> bool:
    return file.values.ndim == 1 and tuple(np.bincount(file.values)) in MNIST_CLASS_COUNTS


def _is_old_release(files: Mapping[str, IdxFile]) -> bool:
    """Balanced as Fashion-MNIST, as bright, and with images in both splits.

    No check sum of that release is known. Issue 44 of zalandoresearch/fashion-mnist found 10 images
    of train in its test; the clean release has none. The brightness (a mean of 72.94 of 255) tells
    it from the old KMNIST, equally balanced, which had such images too.
    """
    train, test = (files[f"{split}-images-idx3-ubyte"].values for split in ("train", "t10k"))
    counts = [np.bincount(files[f"{s}-labels-idx1-ubyte"].values) for s in ("train", "t10k")]
    return (
        [list(count) for count in counts] == [[6000] * 10, [1000] * 10]
        and train.shape[1:] == (28, 28)
        and abs(float(train.mean()) - 72.94) < 1
        and not {image.tobytes() for image in train}.isdisjoint(image.tobytes() for image in test)
    )
