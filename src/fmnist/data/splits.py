"""Divides a data set into train, val and a sealed test split."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmnist.data.idx import Bytes
from fmnist.errors import DataError, UsageError
from fmnist.system import print_message

SOME = 5000  # images that tell what a split's are like


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

    @classmethod
    def from_arrays(
        cls, x: npt.ArrayLike, y: npt.ArrayLike, classes: Sequence[str] = ()
    ) -> "Split":
        """Images and labels as `Data.from_arrays` takes them, for a model of these classes.

        Labels are the classes' names, or the numbers that are their names, as in the data; where
        names are no numbers, places in `classes`. Raises DataError, with the line of Python that
        mends what Keras' users have in hand, and for a label that is no class.
        """
        from fmnist.data.forms.arrays import as_images, as_labels

        images, _ = as_images("x", x)
        labels = as_labels("y", y, len(images))
        if labels.dtype.kind == "U" or (classes and all(map(str.isdecimal, classes))):
            places = {name: place for place, name in enumerate(classes)}
            present = np.unique(labels)
            if odd := [str(value) for value in present if str(value) not in places]:
                raise DataError(
                    f"y: expected labels of the classes {', '.join(classes[:12])}, received "
                    f"{', '.join(odd[:5])}"
                )
            numbers = np.array([places[str(value)] for value in present])
            labels = numbers[np.searchsorted(present, labels)]
        # Those that int32 has no room for are of no class either.
        return cls(images[..., None], np.clip(labels, -1, 2**31 - 1).astype(np.int32))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def on_black(self) -> bool:
        """Whether most images are black at their border, by at most SOME spread over all."""
        chosen = np.linspace(0, len(self) - 1, min(len(self), SOME)).astype(int)
        return bool(are_on_black(self.images[chosen, :, :, 0]).mean() > 0.5)


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


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set, verified, with its three splits.

    `hashes`: SHA-256 of each split's images and labels as IDX files, by MNIST's names, so that a
    set has the same in every form. `val_indices`: int64, ascending, where val's images lie in the
    file order of train + val; `val_index_hash`: SHA-256 of them as little-endian int64. `folder` is
    where the data lies, None for arrays in hand. `reading`: what was asked of the reader, as
    `{"size": 28}`.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: SealedSplit
    folder: Path | None
    hashes: Mapping[str, str]
    val_index_hash: str
    val_indices: npt.NDArray[np.int64]
    reading: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_arrays(
        cls,
        x_train: npt.ArrayLike,
        y_train: npt.ArrayLike,
        x_test: npt.ArrayLike | None = None,
        y_test: npt.ArrayLike | None = None,
        x_val: npt.ArrayLike | None = None,
        y_val: npt.ArrayLike | None = None,
        *,
        classes: Sequence[str] | None = None,
        name: str = "arrays",
        report: Callable[[str], None] = print_message,
    ) -> "Data":
        """A data set of NumPy arrays, such as those of `keras.datasets`.

        Images: whole numbers of 0 to 255, (n, height, width), also with 1 or 3 channels at the end;
        labels: whole numbers or texts, (n,) or (n, 1). Without test or val images they are drawn
        from train, by a fixed seed. `classes` names the classes in the order of the labels. Raises
        DataError, with the line of Python that mends what Keras' users have in hand.
        """
        from fmnist.data.assemble import assemble
        from fmnist.data.forms.arrays import parts_of
        from fmnist.data.parts import Reading

        given = {
            ("train", "images"): ("x_train", x_train),
            ("train", "labels"): ("y_train", y_train),
            ("test", "images"): ("x_test", x_test),
            ("test", "labels"): ("y_test", y_test),
            ("val", "images"): ("x_val", x_val),
            ("val", "labels"): ("y_val", y_val),
        }
        parts = parts_of(name, {k: (n, v) for k, (n, v) in given.items() if v is not None})
        parts.classes = tuple(map(str, classes)) if classes is not None else None
        if len(set(parts.classes or ())) < len(parts.classes or ()):
            raise DataError(f"classes: expected different names, received {parts.classes}")
        return assemble(name, None, parts, Reading(), report)

    def __repr__(self) -> str:
        height, width, _ = self.shape
        return (
            f"Data({self.name!r}: {len(self.classes)} classes, {height} × {width} pixels, "
            f"{len(self.train):,} train, {len(self.val):,} val, {len(self.test):,} test images)"
        )

    @property
    def record(self) -> dict[str, Any]:
        """What a run or an audit keeps of the data, as JSON."""
        about = {
            "name": self.name,
            "hash": self.hash,
            "val_index_hash": self.val_index_hash,
            "folder": str(self.folder.resolve()) if self.folder else "",
        }
        return about | ({"reading": dict(self.reading)} if self.reading else {})

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


def hash_of(hashes: Mapping[str, str]) -> str:
    """One SHA-256 over several, hexadecimal."""
    lines = "".join(f"{name} {value}\n" for name, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


BLACK = 12  # of 255


def are_on_black(images: Bytes) -> npt.NDArray[np.bool_]:
    """Which of some images (n, height, width) are black at their border, as MNIST's are: (n,)."""
    border = [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]]
    return np.asarray((np.concatenate(border, axis=1) <= BLACK).mean(axis=1) > 0.6)


def image_hashes(images: Bytes) -> set[bytes]:
    """A hash of each image's pixels."""
    return {hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images}


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
