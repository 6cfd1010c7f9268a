"""Image files that become splits: unreadable ones, colours and sizes are counted on the way."""

import io
from collections import Counter

import numpy as np

from fmnist.data.idx import SIDE_LIMIT, SIZE_LIMIT, Bytes
from fmnist.data.image_file import FORMATS, LARGEST_IMAGE, decode
from fmnist.data.parts import Reading, Report, grey, impostor, resized
from fmnist.errors import DataError, FmnistError

LISTED = 50  # images that cannot be read, each on a line
SIZES = 3  # in a message


class Pictures:
    """The images of one data set, decoded file by file, grey and of one size.

    `place` is the data set's, for the messages.
    """

    def __init__(self, place: object, reading: Reading) -> None:
        self.place, self.reading = place, reading
        self.splits: dict[str, list[Bytes]] = {}
        self.refused: list[str] = []
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.first_of: dict[tuple[int, int], str] = {}
        self.coloured = self.read = self.pixels = 0

    def add(self, split: str, name: str, content: bytes | FmnistError) -> bool:
        """Add an image from a file's bytes; False, and noted, if it cannot be read."""
        self.read += 1
        try:
            if isinstance(content, FmnistError):
                raise content
            if reason := impostor(content):
                raise DataError(reason)
            image = self._decoded(content)
        except FmnistError as error:
            self.refused.append(f"{name}: {error}")
            return False
        size = (image.shape[1], image.shape[0])
        self.sizes[size] += 1
        self.first_of.setdefault(size, name.removeprefix(f"{self.place}/"))
        self.pixels += image.size
        if self.pixels > SIZE_LIMIT:
            raise DataError(f"{self.place}: expected at most {SIZE_LIMIT:,} pixels in all")
        self.splits.setdefault(split, []).append(image)
        return True

    def _decoded(self, content: bytes) -> Bytes:
        size = self.reading.size
        if size is None and (there := _size(content)) and max(there) > SIDE_LIMIT:
            raise DataError(
                f"expected at most {SIDE_LIMIT} × {SIDE_LIMIT} pixels, received {there[0]} × "
                f"{there[1]}; --size 28 brings every image to 28 × 28"
            )
        values = np.asarray(decode(content, LARGEST_IMAGE, reduce=size is not None))
        if values.ndim == 3:
            values = values[..., :3]  # transparency is dropped
            self.coloured += bool((values != values[..., :1]).any())
            values = grey(values)
        return resized(values, size, size) if size else values

    def finish(self, report: Report) -> list[str]:
        """Lines about all images.

        Raises DataError for several sizes, and for unreadable images, unless those are skipped.
        """
        notes = []
        if len(self.refused) == 1 and not self.reading.skip_unreadable:
            raise DataError(f"{self.refused[0]}; repair or remove it, or add --skip-unreadable")
        for line in self.refused[:LISTED]:
            report(line)
        if len(self.refused) > LISTED:
            report(f"and {len(self.refused) - LISTED:,} more")
        if self.refused:
            if not self.reading.skip_unreadable:
                raise DataError(
                    f"{self.place}: {len(self.refused):,} of {self.read:,} images cannot be read, "
                    "as listed above; repair or remove them, or add --skip-unreadable"
                )
            notes.append(f"{len(self.refused):,} of {self.read:,} images cannot be read: left out")
        if len(self.sizes) > 1:
            found = self.sizes.most_common()
            listed = ", ".join(
                f"{w} × {h} ({n:,}, as {self.first_of[w, h]})" for (w, h), n in found[:SIZES]
            )
            more = f" and {len(found) - SIZES} more sizes" if len(found) > SIZES else ""
            raise DataError(
                f"{self.place}: expected images of one size, received {listed}{more}; "
                "--size 28 brings them to 28 × 28, in their own proportions"
            )
        if self.coloured:
            notes.append(f"{self.coloured:,} images in colour are read as grey")
        return notes

    def images(self, split: str) -> Bytes:
        """A split's images, uint8 (n, height, width), once. After `finish`."""
        if not self.splits.get(split):
            raise DataError(f"{self.place}: expected images in {split}, received none")
        return np.stack(self.splits.pop(split))


def _size(content: bytes) -> tuple[int, int] | None:
    """Width and height that an image file states; None where `decode` will say what is wrong."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.size
    except Exception:
        return None
