"""A data set as CSV, one image a line: Kaggle's Fashion-MNIST, MNIST, digit recogniser, EMNIST."""

import csv
import gzip
import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fmnist.data.forms.idx_files import EMNIST, UPRIGHT
from fmnist.data.idx import SIDE_LIMIT, require_room
from fmnist.data.parts import Labelled, Parts, refuse_impostor, require_train, role
from fmnist.errors import DataError

LONGEST_LINE = 8 << 20  # characters: more than 1024 × 1024 values take
LINES = 512  # parsed at a time
LABELS = {"label", "labels", "class", "target", "y"}


class Columns(NamedTuple):
    """Which column is the label, None for none, how many there are, and whether a header is."""

    label: int | None
    columns: int
    header: bool

    @property
    def side(self) -> int:
        """Height and width of the images; 0 where the columns make no square."""
        pixels = self.columns - (self.label is not None)
        side = math.isqrt(max(pixels, 0))
        return side if side > 1 and side * side == pixels and side <= SIDE_LIMIT else 0


def read_csv_files(place: Path, paths: Iterable[Path]) -> Parts:
    """The splits in CSV files whose names say which is which; a file that says nothing is train.

    A header names the label's column, else it is the first. A file without labels is left out.
    Raises DataError.
    """
    found: dict[str, Path] = {}
    notes = []
    for path in sorted(paths, key=lambda path: (path.suffix == ".gz", path)):
        split = role(path.name.split(".")[0])[1] or "train"
        refuse_impostor(path)
        columns = columns_of(path)
        if columns.label is None:
            notes.append(f"{path.name}: has no column of labels, so it is left out")
        elif split not in found:
            found[split] = path
    require_train(place, found)
    splits = {split: _read(path) for split, path in found.items()}
    if role(found["train"].name.split(".")[0])[0] in EMNIST:
        notes.append(UPRIGHT)
        splits = {
            name: Labelled(np.ascontiguousarray(part.images.swapaxes(1, 2)), part.labels)
            for name, part in splits.items()
        }
    return Parts(splits, None, notes)


def columns_of(path: Path) -> Columns:
    """What the first line shows. Raises DataError."""
    with _open(path) as stream:
        first = next(csv.reader([next(_lines(path, stream), "")]), [])
    header = not all(_is_number(word) for word in first[1:])
    label: int | None
    if header:
        names = [word.strip().lower() for word in first]
        label = next((i for i, word in enumerate(names) if word in LABELS), None)
    else:  # 785 values are a label and 784 pixels, 784 are pixels alone
        label = None if Columns(None, len(first), False).side else 0
    return Columns(label, len(first), header)


def looks_like_images(path: Path) -> bool:
    """Whether a file's first line is that of a table of images."""
    with suppress(DataError):
        return columns_of(path).side > 0
    return False


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _read(path: Path) -> Labelled:
    columns = columns_of(path)
    if not columns.side:
        more = Columns(columns.label, columns.columns - 1, columns.header).side
        hint = "; is one an index? pandas leaves it out with index=False" if more else ""
        if columns.columns == 1:
            hint = "; values are to be separated by commas"
        raise DataError(
            f"{path}: expected a label and the pixels of a square image a line, as 785 columns of "
            f"28 × 28, received {columns.columns} columns{hint}"
        )
    usecols = [i for i in range(columns.columns) if i != columns.label]
    pixels: list[npt.NDArray[np.uint8]] = []
    labels: list[npt.NDArray[Any]] = []
    done = int(columns.header)
    options: dict[str, Any] = {"delimiter": ",", "comments": None, "quotechar": '"'}
    with _open(path) as stream:
        lines = _lines(path, stream)
        next(islice(lines, done, done), None)
        while some := list(islice(lines, LINES)):
            if some := [line for line in some if line.strip()]:
                try:
                    pixels.append(np.loadtxt(some, np.uint8, usecols=usecols, ndmin=2, **options))
                    labels.append(np.loadtxt(some, str, usecols=columns.label, ndmin=1, **options))
                except ValueError as error:
                    raise DataError(
                        f"{path}: expected {columns.columns} columns of whole numbers of 0 to 255 "
                        f"in each line, received after line {done:,}: {error}; save whole numbers, "
                        "as NumPy's astype(int) makes them"
                    ) from None
                require_room(path, sum(map(len, pixels)) * len(usecols))
            done += LINES
    if not pixels:
        raise DataError(f"{path}: expected a line for each image, received none")
    images = np.concatenate(pixels).reshape(-1, columns.side, columns.side)
    texts = np.concatenate(labels)
    try:
        return Labelled(images, texts.astype(np.int64))
    except ValueError:  # class names
        return Labelled(images, texts)


def _open(path: Path) -> IO[str]:
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        opener = gzip.open if packed else open
        return opener(path, "rt", encoding="utf-8-sig", newline="")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _lines(path: Path, stream: IO[str]) -> Iterator[str]:
    """The lines, none longer than an image may be. Raises DataError."""
    try:
        while line := stream.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise DataError(
                    f"{path}: expected lines of at most {LONGEST_LINE:,} characters, received one "
                    "that is longer"
                )
            yield line
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it anew") from None
