"""A data set as folders of images: `train/<class>/*`, `val/…`, `test/…`, or `<class>/*` alone."""

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from fmnist.data.forms.pictures import Pictures
from fmnist.data.image_file import LARGEST_FILE, SUFFIXES
from fmnist.data.parts import (
    SPLITS,
    Labelled,
    Parts,
    Reading,
    Report,
    read_classes,
    require_train,
    role,
)
from fmnist.errors import DataError

AT_ONCE = 256  # files read before they are decoded


def split_folders(place: Path) -> dict[str, Path]:
    """The folders of `place` that are splits, by "train", "val" and "test". Raises DataError."""
    found: dict[str, Path] = {}
    inner = subfolders(place)
    # Plain names first, since a class may be called `train set`; others as Kaggle has them.
    plain = {name for name in inner if name.lower() in SPLITS}
    for name, path in inner.items():
        split = role(name)[1] if name in plain or not plain else None
        if split and (name in plain or _holds_classes(path)):
            if split in found:
                raise DataError(
                    f"{place}: expected one folder for {split}, received {found[split].name} and "
                    f"{name}; rename one"
                )
            found[split] = _unwrapped(path)
    return found


def _holds_classes(folder: Path) -> bool:
    """Whether there are two folders in a folder, perhaps within one of its own name."""
    return len(subfolders(_unwrapped(folder))) > 1


def _unwrapped(folder: Path) -> Path:
    """`seg_train/seg_train` for `seg_train`, where there is nothing else in it."""
    inner = subfolders(folder)
    return inner[folder.name] if set(inner) == {folder.name} else folder


def _tops(place: Path, splits: dict[str, Path]) -> set[str]:
    """The names in `place` that lead to its splits."""
    return {path.relative_to(place).parts[0] for path in splits.values()}


def subfolders(folder: Path) -> dict[str, Path]:
    """The folders in a folder by name, but for hidden ones and what macOS adds to archives."""
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".") and path.name != "__MACOSX"
    }


def holds_images(folder: Path) -> bool:
    """Whether there is an image in a folder or below it."""
    return any(_is_image(name) for _, _, names in os.walk(folder) for name in names)


def read_image_folder(place: Path, reading: Reading, report: Report) -> Parts:
    """The images in folders by class, of each split or of one that is still to be divided.

    Images in subfolders of a class count. Raises DataError.
    """
    splits = split_folders(place)
    names = read_classes(place)
    folders = {split: subfolders(path) for split, path in splits.items()}
    if not folders:
        folders = {"train": subfolders(place)}
    require_train(place, folders)
    classes = names or tuple(folders["train"])
    notes = []
    if splits and (others := sorted(set(subfolders(place)) - _tops(place, splits))):
        notes.append(f"folders beside train are passed over: {', '.join(others[:9])}")
    if "test" in folders and not set(folders["test"]) & set(classes):
        notes.append(f"{splits['test'].name} has no folders by class, so no labels: it is left out")
        del folders["test"]
    for split, found in folders.items():
        odd = set(found) - set(classes) if split == "val" else set(found) ^ set(classes)
        if odd:
            raise DataError(
                f"{splits.get(split, place)}: expected one folder per class, as in "
                f"{'classes.txt' if names else 'train'}; missing or unexpected: "
                f"{', '.join(sorted(odd))}"
            )
    pictures = Pictures(place, reading)
    passed_over: Counter[str] = Counter()
    labels: dict[str, list[int]] = {split: [] for split in folders}
    for split, found in folders.items():
        passed_over += _passed_over(splits.get(split, place), is_class=False)
        for label, name in enumerate(classes):
            if name not in found:
                continue
            paths = sorted(_images_in(found[name]))
            if not paths:
                raise DataError(f"{found[name]}: expected images, received none")
            passed_over += _passed_over(found[name], is_class=True)
            labels[split] += _add(pictures, split, paths, label)
    notes += pictures.finish(report)
    if passed_over:
        kinds = ", ".join(f"{kind} ({n:,})" for kind, n in sorted(passed_over.items()))
        notes.append(f"{passed_over.total():,} files are no images by class: passed over: {kinds}")
    return Parts(
        {s: Labelled(pictures.images(s), np.array(labels[s], np.int64)) for s in folders},
        classes,
        notes,
    )


def _add(pictures: Pictures, split: str, paths: Iterable[Path], label: int) -> list[int]:
    """Add a class's files in their order; a label for each that could be read."""
    labels = []
    remaining = iter(paths)
    with ThreadPoolExecutor(2) as pool:
        while some := list(islice(remaining, AT_ONCE)):
            for path, content in zip(some, pool.map(_content, some), strict=True):
                if pictures.add(split, str(path), content):
                    labels.append(label)
    return labels


def _content(path: Path) -> bytes | DataError:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_FILE:
            return DataError(f"expected an image file of at most {LARGEST_FILE:,} bytes")
        return path.read_bytes()
    except OSError as error:
        return DataError(f"cannot be read ({error.strerror or error})")


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _walk(folder: Path) -> Iterable[Path]:
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if name != "__MACOSX" and not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield Path(place, name)


def _images_in(folder: Path) -> list[Path]:
    return [path for path in _walk(folder) if _is_image(path.name)]


def _passed_over(folder: Path, *, is_class: bool) -> Counter[str]:
    """What is not taken: other files in a class's folder, by ending, or images outside of them."""
    if is_class:
        others = (path for path in _walk(folder) if not _is_image(path.name))
        return Counter(path.suffix.lower() or path.name for path in others)
    loose = sum(path.is_file() and _is_image(path.name) for path in folder.iterdir())
    return Counter({"in no class's folder": loose} if loose else {})
