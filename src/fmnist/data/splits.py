"""Divides a data set into train, val and a sealed test split."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fmnist.data.idx import Bytes
from fmnist.errors import DataError, UsageError, printable

VAL_SEED = 20170831  # the day of the clean release; changing it changes every validation split
VAL_PART = 12  # one image of so many of each class: 500 of Fashion-MNIST's 6,000


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images. `images`: uint8, (n, height, width, 1); `labels`: int32, (n,).

    `name` is "train" or "val", and `source` the data set's hash, where it is one of a data set's
    splits. Images and labels are read-only. Raises DataError for other types or shapes.
    """

    images: Bytes
    labels: npt.NDArray[np.int32]
    name: str = "images"
    source: str = ""

    def __post_init__(self) -> None:
        images, labels = np.asarray(self.images).view(), np.asarray(self.labels).view()
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 1:
            raise DataError(
                "images: expected uint8 of shape (n, height, width, 1), received "
                f"{images.dtype} of shape {images.shape}"
            )
        if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
            raise DataError(
                f"labels: expected int32 of shape {images.shape[:1]}, received "
                f"{labels.dtype} of shape {labels.shape}"
            )
        for name, values in (("images", images), ("labels", labels)):
            values.flags.writeable = False  # of our view; the caller's own array stays as it was
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.labels)


class SealedSplit:
    """The test split: its length is known; only `open()` gives its images.

    It counts and refuses nothing. Code must call `open`, so training never reads test by accident.
    """

    def __init__(self, opener: Callable[[], Split], length: int) -> None:
        self._opener, self._length = opener, length

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"SealedSplit({self._length:,} images)"

    def open(self) -> Split:
        """The split itself."""
        return self._opener()


@dataclass(frozen=True, eq=False)
class Data:
    """A data set, verified, with its three splits.

    `hashes`: SHA-256 of each file's decompressed IDX bytes by name without .gz, or of each split of
    an image folder (names and bytes of its files). `val_indices`: int64, ascending, where val's
    images lie in the file order of train + val; `val_index_hash`: SHA-256 of them as little-endian
    int64.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: SealedSplit
    folder: Path
    hashes: Mapping[str, str]
    val_index_hash: str
    val_indices: npt.NDArray[np.int64] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 1) of every image."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def hash(self) -> str:
        """One SHA-256 over `hashes`, hexadecimal."""
        return hash_of(self.hashes)

    def fitting(self, fit_on: str) -> Split:
        """The training images: of "train", or of "all": train and val in the order of the files."""
        if fit_on == "train":
            return self.train
        if fit_on != "all":
            raise UsageError(f"fit_on: expected 'train' or 'all', received {fit_on!r}")
        is_val = np.zeros(len(self.train) + len(self.val), bool)
        is_val[self.val_indices] = True
        images = np.empty((len(is_val), *self.shape), np.uint8)
        labels = np.empty(len(is_val), np.int32)
        for rows, split in ((is_val, self.val), (~is_val, self.train)):
            images[rows], labels[rows] = split.images, split.labels
        return Split(images, labels)


def assemble(
    name: str,
    classes: tuple[str, ...],
    place: Path,
    known: Split,
    test: Split,
    hashes: Mapping[str, str],
) -> Data:
    """Divide `known` into train and val, and return the whole data set. Raises DataError."""
    for text in (name, *classes):
        if text != printable(text):
            raise DataError(
                f"{place}: expected names without control characters, received {text!r}"
            )
    if len(np.unique(known.labels)) < 2:
        raise DataError(f"{place}: expected images of at least two classes in train, received one")
    if (value := known.images.min()) == known.images.max():
        raise DataError(
            f"{place}: expected train images with several values, received {value} in every pixel; "
            "values of 0 to 1 cast to bytes, and drawings in the alpha channel, look like that: "
            "save grey values of 0 to 255"
        )
    indices = val_indices(known.labels)
    if not len(indices):
        raise DataError(
            f"{place}: expected at least two images of some class in train, since val takes one"
        )
    rest = np.delete(np.arange(len(known)), indices)
    source = hash_of(hashes)
    train, val = (
        Split(known.images[rows], known.labels[rows], split, source)
        for rows, split in ((rest, "train"), (indices, "val"))
    )
    index_hash = hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()
    test = Split(test.images, test.labels, "test", source)
    sealed = SealedSplit(lambda: test, len(test))
    return Data(name, classes, train, val, sealed, place, hashes, index_hash, indices)


def hash_of(hashes: Mapping[str, str]) -> str:
    """One SHA-256 over several, hexadecimal."""
    lines = "".join(f"{name} {value}\n" for name, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def val_indices(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Which images are for validation: int64, ascending.

    One in 12 of each class, rounded down, but at least one; a class of one image stays in train.
    They are drawn class by class from one stream of numpy's RandomState, which is frozen: no
    version of numpy will draw others.
    """
    stream = np.random.RandomState(VAL_SEED)
    drawn = [np.empty(0, np.int64)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, len(members) // VAL_PART) if len(members) > 1 else 0
        drawn.append(members[stream.permutation(len(members))[:count]])
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def mean_and_deviation(images: npt.ArrayLike) -> tuple[float, float]:
    """Mean and (population) standard deviation of pixel / 255 over all pixels of uint8 `images`.

    Computed from the exact counts of the 256 values in whole numbers, so that neither order nor
    machine changes a bit of it. Raises UsageError for another dtype or no pixels.
    """
    pixels = np.asarray(images)
    if pixels.dtype != np.uint8 or not pixels.size:
        raise UsageError(f"expected uint8 pixels, received {pixels.size} of {pixels.dtype}")
    counts = np.zeros(256, np.int64)
    flat = pixels.reshape(-1)
    for start in range(0, flat.size, 1 << 20):  # bincount widens what it counts to 8 bytes each
        counts += np.bincount(flat[start : start + (1 << 20)], minlength=256)
    n = flat.size
    total = sum(value * int(count) for value, count in enumerate(counts))
    squares = sum(value * value * int(count) for value, count in enumerate(counts))
    return total / (255 * n), math.sqrt((n * squares - total * total) / (n * n)) / 255
