"""Whether a PNG holds all its pixels: Pillow leaves those that are missing zero, in silence."""

import struct
import zlib

PIECE = 2**20  # bytes unpacked at a time
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type
# The first column and row, and the steps, of the seven passes of Adam7 (PNG, third edition, 8.2).
PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def is_whole(content: bytes) -> bool:
    """Whether the packed rows of a PNG that Pillow has read are as many as its header states."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    bits = depth * CHANNELS[colour]
    expected = 0
    for column, row, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        if columns > 0 and rows > 0:
            expected += rows * (1 + -(-columns * bits // 8))
    return _unpacks_to(content, expected)


def _unpacks_to(content: bytes, expected: int) -> bool:
    """Whether the image data unpacks to so many bytes; more are not unpacked."""
    unpacker, size, place = zlib.decompressobj(), 0, 8
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"IDAT":
            packed = content[place + 8 : place + 8 + length]
            while packed and not unpacker.eof and size < expected:
                size += len(unpacker.decompress(packed, PIECE))
                packed = unpacker.unconsumed_tail
        place += 12 + length
    return size >= expected
