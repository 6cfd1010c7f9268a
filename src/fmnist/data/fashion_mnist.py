"""Fashion-MNIST's files, their pinned check sums, and known look-alikes.

It is pinned by the SHA-256 of its four decompressed files, because its distributors
compress them anew. The pins hold for the makers' own release of 31 August 2017: with a gzip header
of that day (10:50:06 and 10:50:27 UTC) the pinned contents give the MD5 sums in the makers' README.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fmnist.data.idx import SIZE_LIMIT, IdxFile, read_pair
from fmnist.errors import DataError


class Pin(NamedTuple):
    """The expected SHA-256 and size of a file's content, and the size of the makers' gzip."""

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
# SHA-256 over the sorted BLAKE2b hashes (16 bytes) of each image's label and pixels.
IN_ANY_ORDER = {
    "train": (60_000, "23d0847d9126d5c6802a53a9f500589c268a56a198e59487c201f31e0b50cea3"),
    "t10k": (10_000, "12d524c7dc0398176d8e0e8b912b81331400f3fe085b466efdd22932f4e4917d"),
}
MNIST_CLASS_COUNTS = {
    (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}


def find_idx(folder: Path) -> dict[str, Path]:
    """The files of an IDX set in `folder`, by name without .gz.

    Where a file is there with and without .gz, the .gz is taken, for its check sum guards it.
    """
    paths: dict[str, Path] = {}
    for name in PINS:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                paths.setdefault(name, path)
    return paths


def read_set(folder: Path, limits: Mapping[str, Pin] | None = None) -> dict[str, IdxFile]:
    """The four IDX files in `folder`, by name without .gz; counts and image sizes agree.

    With `limits` no file may be larger than its pin. Raises DataError.
    """
    paths = find_idx(folder)
    if missing := [name for name in PINS if name not in paths]:
        raise DataError(f"{folder}: expected four IDX files, missing {', '.join(missing)} (or .gz)")
    sizes = {name: limits[name].size if limits else SIZE_LIMIT for name in paths}
    files = {}
    for split in ("train", "t10k"):
        labels, images = (f"{split}-{kind}-ubyte" for kind in ("labels-idx1", "images-idx3"))
        limit = (sizes[labels], sizes[images])
        files[labels], files[images] = read_pair(paths[labels], paths[images], limit)
    train, test = (files[f"{s}-images-idx3-ubyte"].values.shape[1:] for s in ("train", "t10k"))
    if train != test:
        raise DataError(
            f"{folder}: expected images of one size, received {train[0]} × {train[1]} pixels in "
            f"train and {test[0]} × {test[1]} in test"
        )
    return files


def difference(files: Mapping[str, IdxFile], pins: Mapping[str, Pin] = PINS) -> str | None:
    """None if `files` (all four or some) match their pins; else a line that says why not."""
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


def is_reordered(files: Mapping[str, IdxFile]) -> bool:
    """Whether these are the pinned images and labels in another order, as Kaggle's CSV has."""
    for split, (count, pin) in IN_ANY_ORDER.items():
        images, labels = (
            files[f"{split}-{k}-ubyte"].values for k in ("images-idx3", "labels-idx1")
        )
        if images.shape != (count, 28, 28):
            return False
        digests = sorted(
            hashlib.blake2b(bytes([label]) + image.tobytes(), digest_size=16).digest()
            for image, label in zip(images, labels.tolist(), strict=True)
        )
        if hashlib.sha256(b"".join(digests)).hexdigest() != pin:
            return False
    return set(files) == set(PINS)


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


FASHION_MNIST = "fashion-mnist"
REORDERED = "fashion-mnist, reordered"
CLAIMED_NAMES = {"fashion-mnist", "fashion_mnist", "fashionmnist", "fmnist"}
FASHION_MNIST_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
FASHION_MNIST_VAL_INDEX_HASH = "987ccdbfe91849a80b87db8afd6dfd1f80ea753f9de5e03614db370944630001"
