"""Loads a data set in any of its forms, verifies it, and divides it into its fixed splits.

Its test split stays sealed; a validation split that it does not have is drawn from train once and
for all, so that every run of every version chooses on the same images.
"""

import contextlib
import dataclasses
import os
from pathlib import Path

from fmnist.data import sources
from fmnist.data.assemble import STEMS, assemble
from fmnist.data.fashion_mnist import FASHION_MNIST, FASHION_MNIST_CLASSES
from fmnist.data.find import Found, find_set
from fmnist.data.forms import archive
from fmnist.data.forms.arrays import read_array_files
from fmnist.data.forms.csv_table import read_csv_files
from fmnist.data.forms.idx_files import read_idx_files
from fmnist.data.forms.image_folder import read_image_folder
from fmnist.data.forms.parquet import read_parquet_files
from fmnist.data.parts import Labelled, Parts, Reading, read_classes
from fmnist.data.sources import Progress, Report
from fmnist.data.splits import Data
from fmnist.errors import DataError


def load_data(
    place: str | os.PathLike[str] | None = None,
    *,
    size: int | None = None,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
    report: Report = sources.print_line,
) -> Data:
    """The data set in `place`, else in the environment's FMNIST_DATA, else Fashion-MNIST.

    Fashion-MNIST is downloaded if it is not here yet (`sources.obtain_set` takes `progress` and
    `report`), and its check sums must match. `place` is a file or a folder: IDX, CSV, .npz, .npy or
    Parquet files, folders of images by class, or a zip or tar archive of those; docs/data.md
    describes each form. Below a folder the one set is found. `size` brings images to so many
    pixels a side. With `skip_unreadable` image files that cannot be read are left out. `report`
    gets a line for all that a user should know of the set. The set is named "fashion-mnist" if it
    is that, else after its files or folder, which must not be called like Fashion-MNIST. Raises
    DataError, and UsageError for a size that no image may have.
    """
    reading = Reading(size, skip_unreadable)
    chosen = place if place is not None else os.environ.get("FMNIST_DATA") or None
    if chosen is None:
        folder, files = sources.obtain_set(progress, report)
        splits = {
            split: Labelled(
                files[f"{STEMS[split]}-images-idx3-ubyte"].values,
                files[f"{STEMS[split]}-labels-idx1-ubyte"].values,
                files[f"{STEMS[split]}-images-idx3-ubyte"].sha256,
            )
            for split in ("train", "test")
        }
        parts = Parts(splits, FASHION_MNIST_CLASSES)
        return assemble(FASHION_MNIST, folder, parts, reading, report)
    path = Path(chosen)
    with contextlib.suppress(RuntimeError):  # ~nobody is a name like any other
        path = path.expanduser()
    try:
        return _load(_found(path), reading, report)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _found(path: Path) -> Found:
    """The set that a path names; it may lead into an archive."""
    inside = next((p for p in path.parents if archive.is_archive(p) and p.is_file()), None)
    if inside is None or path.exists():
        return find_set(path)
    return Found("archive", path.name, path, (inside,))


def _load(found: Found, reading: Reading, report: Report) -> Data:
    if found.form == "archive":
        file = found.files[0]
        with archive.unpacked(file) as folder:

            def renamed(line: str) -> str:  # of the folder, which will be gone
                return line.replace(str(folder), str(file))

            try:
                inner = find_set(folder / found.place.relative_to(file))
                if inner.name == folder.name:
                    inner = inner._replace(name=found.name)
                data = _load(inner, reading, lambda line: report(renamed(line)))
            except DataError as error:
                raise DataError(renamed(str(error))) from None
        return dataclasses.replace(data, folder=found.place)
    parts = _read(found, reading, report)
    folder = found.place if found.place.is_dir() else found.place.parent
    if found.form != "images":  # there the names say which folder is which label
        parts.classes = read_classes(folder) or parts.classes
    are_idx = found.form == "idx"
    return assemble(found.name, found.place, parts, reading, report, are_idx=are_idx)


def _read(found: Found, reading: Reading, report: Report) -> Parts:
    if found.form == "idx":
        return read_idx_files(found.place, found.files)
    if found.form == "arrays":
        return read_array_files(found.place, found.files)
    if found.form == "csv":
        return read_csv_files(found.place, found.files)
    if found.form == "parquet":
        return read_parquet_files(found.place, found.files, reading, report)
    return read_image_folder(found.place, reading, report)
