"""Data sets: where they come from, their fixed splits, and what can be said of them.

A data set is four IDX files under Fashion-MNIST's names, or a folder of images by class. Its test
split stays sealed; its validation split is drawn from train once and for all, so that every run of
every version chooses on the same images.
"""

import hashlib
import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmnist import idx, sources
from fmnist.errors import DataError, UsageError, printable
from fmnist.idx import SIDE_LIMIT, SIZE_LIMIT, Bytes, IdxFile, read_idx
from fmnist.sources import Progress, Report

__all__ = [
    "Data",
    "SealedSplit",
    "Split",
    "describe",
    "draw_samples",
    "load_data",
    "mean_and_deviation",
    "read_idx",
]

FASHION_MNIST = "fashion-mnist"
FASHION_MNIST_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
CLAIMED_NAMES = {"fashion-mnist", "fashion_mnist", "fashionmnist", "fmnist"}
VAL_SEED = 20170831  # the day of the clean release; changing it changes every validation split
VAL_PART = 12  # one image of so many of each class: 500 of Fashion-MNIST's 6,000
FASHION_MNIST_VAL_INDEX_HASH = "987ccdbfe91849a80b87db8afd6dfd1f80ea753f9de5e03614db370944630001"
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
LARGEST_FILE = 16 * 2**20  # bytes of an image or of the class names


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
    """The test split: its length is known, its images are had by `open()` alone.

    Nothing here counts or refuses; that `open` must be written out keeps training away from test.
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
        return _hash_of(self.hashes)

    def fitting(self, fit_on: str) -> Split:
        """The images to fit on: "train", or "all" for train and val in their files' order."""
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


def load_data(
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    report: Report = sources.print_line,
) -> Data:
    """The data set in `folder`, else in the environment's FMNIST_DATA, else Fashion-MNIST.

    Fashion-MNIST is fetched where need be (see `sources.obtain_set`, which takes `progress` and
    `report`) and refused unless its check sums match. A folder holds either four IDX files under
    Fashion-MNIST's names (.gz or not; of two the .gz) or images as `train/<class>/*.png` and
    `test/<class>/*.png`; it may hold `classes.txt`, one name a line in the order of the labels. It
    is named "fashion-mnist" if it is that, else after the folder, which must then not claim to be
    Fashion-MNIST. Raises DataError.
    """
    chosen = folder if folder is not None else os.environ.get("FMNIST_DATA") or None
    if chosen is None:
        place, files = sources.obtain_set(progress, report)
        return _from_idx(FASHION_MNIST, FASHION_MNIST_CLASSES, place, files)
    place = Path(chosen).expanduser()
    try:
        return _from_folder(place, place.resolve().name or "data", report)
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror or error})") from None


def _from_folder(place: Path, name: str, report: Report) -> Data:
    if idx.find_idx(place):
        files = idx.read_set(place)
        different = idx.difference(files)
        if different is None:
            return _from_idx(FASHION_MNIST, FASHION_MNIST_CLASSES, place, files)
        _refuse_claim(place, name, different)
        if not different.startswith("unknown"):  # plain MNIST, or a release to stay away from
            report(f"note: {place}: {different}")
        return _from_idx(name, _read_classes(place), place, files)
    if not (place / "train").is_dir():
        raise DataError(
            f"{place}: expected {next(reversed(idx.PINS))}(.gz) and its three fellows, or "
            f"train/<class>/*.png and test/<class>/*.png, received "
            f"{'neither' if place.is_dir() else 'no folder'}; check --data or FMNIST_DATA"
        )
    _refuse_claim(place, name, "a folder of images cannot be verified")
    return _from_images(name, _read_classes(place), place)


def _refuse_claim(place: Path, name: str, why: str) -> None:
    if name.lower() in CLAIMED_NAMES:
        raise DataError(
            f"{place}: expected Fashion-MNIST by the folder's name, but {why}; "
            "rename the folder if it is a set of your own"
        )


def _read_classes(folder: Path) -> tuple[str, ...] | None:
    path = folder / "classes.txt"
    if not path.is_file():
        return None
    if path.stat().st_size > LARGEST_FILE:
        raise DataError(f"{path}: expected at most {LARGEST_FILE:,} bytes of class names")
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8").strip().splitlines())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected one class name a line in UTF-8 ({error})") from None
    if len(set(names)) < max(2, len(names)) or "" in names:
        raise DataError(f"{path}: expected at least two class names, one a line, no two alike")
    return names


def _from_idx(
    name: str, classes: tuple[str, ...] | None, place: Path, files: Mapping[str, IdxFile]
) -> Data:
    splits = []
    for split in ("train", "t10k"):
        labels = files[f"{split}-labels-idx1-ubyte"]
        if classes is None:  # without names the train split, read first, says how many there are
            classes = tuple(map(str, range(int(labels.values.max()) + 1)))
        if labels.values.max() >= len(classes):
            raise DataError(
                f"{labels.path}: expected labels 0 to {len(classes) - 1}, received "
                f"{labels.values.max()}; classes.txt names all classes in the order of the labels"
            )
        images = files[f"{split}-images-idx3-ubyte"].values[..., np.newaxis]
        splits.append(Split(images, labels.values.astype(np.int32)))
    hashes = {stem: file.sha256 for stem, file in sorted(files.items())}
    return _assemble(name, classes or (), place, splits[0], splits[1], hashes)


def _assemble(
    name: str,
    classes: tuple[str, ...],
    place: Path,
    known: Split,
    test: Split,
    hashes: Mapping[str, str],
) -> Data:
    """The data set of which `known` is to be divided into train and val."""
    for text in (name, *classes):
        if text != printable(text):
            raise DataError(
                f"{place}: expected names without control characters, received {text!r}"
            )
    if len(np.unique(known.labels)) < 2:
        raise DataError(f"{place}: expected images of at least two classes in train, received one")
    indices = val_indices(known.labels)
    if not len(indices):
        raise DataError(f"{place}: expected two images of some class in train, one being for val")
    rest = np.delete(np.arange(len(known)), indices)
    source = _hash_of(hashes)
    train, val = (
        Split(known.images[rows], known.labels[rows], split, source)
        for rows, split in ((rest, "train"), (indices, "val"))
    )
    index_hash = hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()
    test = Split(test.images, test.labels, "test", source)
    sealed = SealedSplit(lambda: test, len(test))
    return Data(name, classes, train, val, sealed, place, hashes, index_hash, indices)


def _hash_of(hashes: Mapping[str, str]) -> str:
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


def _from_images(name: str, names: tuple[str, ...] | None, place: Path) -> Data:
    found = {split: _subfolders(place / split) for split in ("train", "test")}
    classes = names or tuple(found["train"])
    for split, folders in found.items():
        if sorted(folders) != sorted(classes):
            odd = sorted(set(folders) ^ set(classes))
            raise DataError(
                f"{place / split}: expected one folder a class, as in "
                f"{'classes.txt' if names else 'train'}; missing or too many: {', '.join(odd)}"
            )
    splits, hashes, size = [], {}, None
    for split, folders in found.items():
        images: list[Bytes] = []
        labels: list[int] = []
        digest = hashlib.sha256()
        for label, class_name in enumerate(classes):
            paths = [
                path
                for path in sorted(folders[class_name].iterdir())
                if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
            ]
            if not paths:
                raise DataError(f"{folders[class_name]}: expected images, received none")
            for path in paths:
                packed, image = _read_image(path, size)
                size = image.shape
                if (len(images) + 1) * image.size > SIZE_LIMIT:
                    raise DataError(f"{place / split}: expected at most {SIZE_LIMIT:,} pixels")
                images.append(image)
                labels.append(label)
                relative = f"{class_name}/{path.name}\0{len(packed)}\0"
                digest.update(relative.encode("utf-8", "surrogateescape") + packed)
        splits.append(Split(np.stack(images)[..., np.newaxis], np.array(labels, np.int32)))
        hashes[split] = digest.hexdigest()
    return _assemble(name, classes, place, splits[0], splits[1], hashes)


def _subfolders(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder with one folder of images a class")
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }


def _read_image(path: Path, size: tuple[int, ...] | None) -> tuple[bytes, Bytes]:
    """The file's bytes, and its pixels in 8-bit grey, (height, width); transparency is dropped.

    `size`, where known, is the (height, width) that it must have; nothing larger is decoded.
    """
    from PIL import Image

    if not path.is_file() or path.stat().st_size > LARGEST_FILE:
        raise DataError(f"{path}: expected an image of at most {LARGEST_FILE:,} bytes; remove it")
    try:
        packed = path.read_bytes()
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream) as picture:
                width, height = picture.size
                if (height, width) == (size or (height, width)) and max(
                    width, height
                ) <= SIDE_LIMIT:
                    if picture.mode.startswith("I;16"):  # convert() would cut, not scale
                        return packed, (np.asarray(picture) >> 8).astype(np.uint8)
                    return packed, np.asarray(picture.convert("L"))
    except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
        raise DataError(f"{path}: not an image that can be read ({error}); remove it") from None
    wanted = f"{size[1]} × {size[0]}" if size else f"at most {SIDE_LIMIT} × {SIDE_LIMIT}"
    raise DataError(
        f"{path}: expected {wanted} pixels, received {width} × {height}; "
        "bring all images to one size"
    )


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


def describe(data: Data) -> dict[str, Any]:
    """What `fmnist data` prints, ready for JSON.

    "duplicates" counts, for one split, the images of which an equal one came before, and for a pair
    ("train-test") the different images found in both. "mean" and "deviation" are of train's pixels
    / 255. Test is opened for counting only, never for scoring.
    """
    splits = {"train": data.train, "val": data.val, "test": data.test.open()}
    different = {
        name: {hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in split.images}
        for name, split in splits.items()
    }
    duplicates = {name: len(split) - len(different[name]) for name, split in splits.items()}
    for one, other in combinations(splits, 2):
        duplicates[f"{one}-{other}"] = len(different[one] & different[other])
    mean, deviation = mean_and_deviation(data.train.images)
    return {
        "name": data.name,
        "folder": str(data.folder),
        "shape": list(data.shape),
        "hash": data.hash,
        "hashes": dict(data.hashes),
        "val_index_hash": data.val_index_hash,
        "splits": {
            name: {
                "images": len(split),
                "per_class": {
                    class_name: int(np.count_nonzero(split.labels == label))
                    for label, class_name in enumerate(data.classes)
                },
            }
            for name, split in splits.items()
        },
        "duplicates": duplicates,
        "mean": mean,
        "deviation": deviation,
    }


def draw_samples(data: Data, path: str | os.PathLike[str], per_class: int = 10) -> None:
    """Write a picture of train's first `per_class` images of each class, a row a class.

    The suffix of `path` chooses the format (.png, .svg, .pdf). Raises UsageError if it cannot.
    """
    if per_class < 1:
        raise UsageError(f"per_class: expected at least 1, received {per_class}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width, _ = data.shape
    cell = 0.55  # inches of an image's width
    names = 0.075 * max(map(len, data.classes)) + 0.2  # inches of the column of names
    figure = Figure(
        figsize=(names + cell * per_class, cell * height / width * len(data.classes)), dpi=150
    )
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    gap = max(1, width // 14)
    for label, class_name in enumerate(data.classes):
        top = label * (height + gap)
        axes.text(-2 * gap, top + height / 2, class_name, ha="right", va="center", fontsize=10)
        for column, index in enumerate(np.flatnonzero(data.train.labels == label)[:per_class]):
            left = column * (width + gap)
            axes.imshow(
                data.train.images[index, :, :, 0],
                cmap="gray",
                vmin=0,
                vmax=255,
                extent=(left, left + width, top + height, top),
                interpolation="nearest",
            )
    right, bottom = per_class * (width + gap), len(data.classes) * (height + gap)
    axes.set_xlim(-names / cell * (width + gap), right)
    axes.set_ylim(bottom, -gap)
    try:
        figure.savefig(Path(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: the picture cannot be written ({error})") from None
