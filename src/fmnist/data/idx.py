"""IDX files, read strictly.

An IDX file is 2 zero bytes, a type byte, the number of dimensions, each dimension as a big-endian
32-bit number, then the values. Here only unsigned bytes in 1 dimension (labels) or 3 (images) are
taken, plain or in one gzip member, which the content tells, not the name.
"""

import hashlib
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fmnist.errors import DataError
from fmnist.system import available

Bytes = npt.NDArray[np.uint8]


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

    `dimensions` is 1 for labels, 3 for images, None for either. `limit` is the largest size of the
    decompressed file in bytes. Memory grows with the bytes read, never with the size that a header
    states. Reading stops at the first byte too many. Raises DataError unless the file is complete
    and has exactly the size that its header states.
    """
    return read_file(Path(path), dimensions, limit).values


def read_file(path: Path, dimensions: int | None, limit: int = SIZE_LIMIT) -> IdxFile:
    """As `read_idx`, with the hash of what was read.

    A file that promises more than a third of the memory that there is, is refused unread: a data
    set is held up to three times while it is divided.
    """
    content, digest = bytearray(), hashlib.sha256()
    shape: tuple[int, ...] | None = None
    size = 0
    for piece in _pieces(path):
        content += piece
        digest.update(piece)
        if shape is None:
            shape = _promised_shape(path, content, dimensions)
            if shape is None:
                continue
            size = 4 + 4 * len(shape) + math.prod(shape)
            require_room(path, size, limit)
        if len(content) > size:
            raise DataError(
                f"{path}: expected {size:,} bytes from its header {shape}, received more; "
                "fetch the file anew"
            )
    if shape is None or len(content) < size:
        raise DataError(
            f"{path}: expected {f'{size:,} bytes' if size else 'a header'}, "
            f"received {len(content):,} bytes: cut short; fetch the file anew"
        )
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
    values.flags.writeable = False
    return IdxFile(path, values, digest.hexdigest())


def require_room(path: object, size: int, limit: int = SIZE_LIMIT) -> None:
    """Raise DataError for a promise of more bytes than are allowed, or than fit in the memory.

    A data set is held up to three times while it is divided.
    """
    if size > limit:
        raise DataError(
            f"{path}: expected at most {limit:,} bytes, received a header for "
            f"{size:,}; the file is damaged or of another data set"
        )
    if 3 * size > (free := available() or 3 * size):
        raise DataError(
            f"{path}: expected a file that fits in the memory, received a header "
            f"for {size:,} bytes, of which three times are needed where {free:,} "
            "are free; free some, or take fewer images"
        )


def idx_header(values: npt.NDArray[Any]) -> bytes:
    """What an IDX file of these values, uint8 or big-endian int32, begins with."""
    kind = 8 if values.dtype == np.uint8 else 12
    return bytes([0, 0, kind, values.ndim]) + np.array(values.shape, ">u4").tobytes()


def promised(path: Path, dimensions: int) -> tuple[int, ...]:
    """The dimensions that an IDX file's header states; nothing more is read. Raises DataError."""
    content = bytearray()
    for piece in _pieces(path):
        content += piece
        if shape := _promised_shape(path, content, dimensions):
            return shape
    raise DataError(
        f"{path}: expected a header, received {len(content)} bytes: cut short; fetch it anew"
    )


def read_pair(
    labels: Path, images: Path, limits: tuple[int, int] = (SIZE_LIMIT, SIZE_LIMIT)
) -> tuple[IdxFile, IdxFile]:
    """A split's labels and images, as `read_file`, none larger than its limit.

    What does not belong together is refused before any of it is unpacked. Raises DataError.
    """
    count = promised(labels, 1)[0]
    if (images_there := promised(images, 3)[0]) != count:
        raise DataError(
            f"{labels}: expected {images_there:,} labels, one per image, received a "
            f"header for {count:,}; the files belong to different sets"
        )
    return read_file(labels, 1, limits[0]), read_file(images, 3, limits[1])


def images_in_pieces(path: Path, count: int, size: tuple[int, int]) -> Iterator[Bytes]:
    """The images of an IDX file, `count` at a time, uint8 (n, height, width), n the rest at last.

    `size` is the (height, width) that they must have; others are refused by the header.

    Memory is that of the pieces. Raises DataError as `read_idx` does, for a file that is cut short
    or too long after the last whole image.
    """
    content = bytearray()
    shape: tuple[int, ...] | None = None
    done = 0
    for piece in _pieces(path):
        content += piece
        if shape is None:
            shape = _promised_shape(path, content, 3)
            if shape is None:
                continue
            if shape[1:] != size:
                raise DataError(
                    f"{path}: expected images of {size[1]} × {size[0]} pixels, received "
                    f"{shape[2]} × {shape[1]}"
                )
            del content[:16]
        pixels = math.prod(size)
        while len(content) >= (n := min(count, shape[0] - done)) * pixels and n:
            yield np.frombuffer(bytes(content[: n * pixels]), np.uint8).reshape(n, *size)
            del content[: n * pixels]
            done += n
        if done == shape[0] and content:
            raise DataError(f"{path}: expected {shape[0]:,} images from its header, received more")
    if shape is None or done < shape[0]:
        expected = f"{shape[0]:,} images" if shape else "a header"
        raise DataError(f"{path}: expected {expected}, received fewer: cut short")


def _pieces(path: Path) -> Iterator[bytes]:
    """A file's content, decompressed where it is gzip, at most PIECE at a time; or DataError."""
    if not path.is_file():
        raise DataError(f"{path}: expected an IDX file, found none; check the path")
    try:
        with path.open("rb") as stream:
            yield from _unpacked(path, stream)
    except zlib.error as error:
        raise DataError(f"{path}: damaged gzip file ({error}); fetch it anew") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _unpacked(path: Path, stream: BinaryIO) -> Iterator[bytes]:
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
