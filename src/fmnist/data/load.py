"""Loads a data set, verifies it, and divides it into its fixed splits.

A data set is four IDX files under Fashion-MNIST's names, or a folder of images by class. Its test
split stays sealed; its validation split is drawn from train once and for all, so that every run of
every version chooses on the same images.
"""

import contextlib
import os
from pathlib import Path

from fmnist.data import sources
from fmnist.data.fashion_mnist import (
    FASHION_MNIST,
    FASHION_MNIST_CLASSES,
    PINS,
    difference,
    find_idx,
    read_set,
)
from fmnist.data.forms.idx_files import read_idx_files
from fmnist.data.forms.image_folder import LARGEST_FILE, read_image_folder
from fmnist.data.sources import Progress, Report
from fmnist.data.splits import Data
from fmnist.errors import DataError

CLAIMED_NAMES = {"fashion-mnist", "fashion_mnist", "fashionmnist", "fmnist"}


def load_data(
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    report: Report = sources.print_line,
) -> Data:
    """The data set in `folder`, else in the environment's FMNIST_DATA, else Fashion-MNIST.

    Fashion-MNIST is downloaded if it is not here yet (`sources.obtain_set` takes `progress` and
    `report`), and its check sums must match. A folder holds either four IDX files under
    Fashion-MNIST's names or images as `train/<class>/*.png` and `test/<class>/*.png`. Of an IDX
    file with and without .gz the .gz is read. `classes.txt` may name the classes, one per line in
    the order of the labels. The set is named "fashion-mnist" if it is that, else after its folder,
    which must not be called like Fashion-MNIST. Raises DataError.
    """
    chosen = folder if folder is not None else os.environ.get("FMNIST_DATA") or None
    if chosen is None:
        place, files = sources.obtain_set(progress, report)
        return read_idx_files(FASHION_MNIST, FASHION_MNIST_CLASSES, place, files)
    place = Path(chosen)
    with contextlib.suppress(RuntimeError):  # ~nobody is a name like any other
        place = place.expanduser()
    try:
        return _from_folder(place, place.resolve().name or "data", report)
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror or error})") from None


def _from_folder(place: Path, name: str, report: Report) -> Data:
    if find_idx(place):
        files = read_set(place)
        different = difference(files)
        if different is None:
            return read_idx_files(FASHION_MNIST, FASHION_MNIST_CLASSES, place, files)
        _refuse_claim(place, name, different)
        if not different.startswith("unknown"):  # plain MNIST, or a release to stay away from
            report(f"note: {place}: {different}")
        return read_idx_files(name, _read_classes(place), place, files)
    if not (place / "train").is_dir():
        raise DataError(
            f"{place}: expected {next(reversed(PINS))}(.gz) and the other three IDX files, or "
            f"train/<class>/*.png and test/<class>/*.png, received "
            f"{'neither' if place.is_dir() else 'no folder'}; check --data or FMNIST_DATA"
        )
    _refuse_claim(place, name, "a folder of images cannot be verified")
    return read_image_folder(name, _read_classes(place), place)


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
        raise DataError(f"{path}: expected one class name per line in UTF-8 ({error})") from None
    if len(set(names)) < max(2, len(names)) or "" in names:
        raise DataError(f"{path}: expected at least two class names, one per line, all different")
    return names
