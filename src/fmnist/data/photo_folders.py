"""Photos to learn from, in a folder a kind: which classes of a data set are right for each."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from fmnist.data.forms.image_folder import subfolders
from fmnist.data.image_file import SUFFIXES
from fmnist.errors import DataError

# What is right for a folder of the Clothing Dataset: its kinds are wider than Fashion-MNIST's.
KINDS = {
    "dress": ("Dress",),
    "longsleeve": ("Pullover", "Shirt", "T-shirt/top", "Coat"),
    "outwear": ("Coat", "Pullover"),
    "pants": ("Trouser",),
    "shirt": ("Shirt",),
    "shoes": ("Sneaker", "Ankle boot", "Sandal"),
    "t-shirt": ("T-shirt/top",),
    "hat": (),
    "shorts": (),
    "skirt": (),
}
NONE = "none"  # the folder of what is no class
SOURCE = "source.txt"  # who made the photos, and under which licence
LONGEST_SOURCE = 1000  # characters
NAMED = 24  # folders' names that an error lists

Found = list[tuple[Path, tuple[int, ...]]]
"""Each photo's file, and the numbers of the classes that are right for it, ascending."""


def read(folder: Path, classes: Sequence[str]) -> Found:
    """The photos in `folder`, sorted by path, with their classes' places in `classes`.

    A folder's name is a class, one of KINDS, or NONE. Every file in it is a photo, but for hidden
    ones. Raises DataError for another name, for a kind whose classes the data lacks, for a folder
    without photos, and for images and folders that lie where none is expected.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder with a folder a kind of photos, found none")
    if loose := [path for path in _visible(folder) if path.suffix.lower() in SUFFIXES]:
        raise DataError(f"{loose[0]}: expected photos in a folder a kind, found one beside them")
    found: Found = []
    for name, path in subfolders(folder).items():
        right = _places(path, name, classes)
        files = _visible(path)
        if not files:
            raise DataError(f"{path}: expected photos, found none")
        if inner := [each for each in files if each.is_dir()]:
            raise DataError(f"{inner[0]}: expected a photo, found a folder")
        if odd := [each for each in files if each.suffix and each.suffix.lower() not in SUFFIXES]:
            raise DataError(f"{odd[0]}: expected photos alone in {path}, found another file")
        found += [(file, right) for file in files]
    if not found:
        raise DataError(f"{folder}: expected a folder a kind of photos, found no folder in it")
    return found


def sha256(found: Found) -> str:
    """The hash of the photos' names and files, hexadecimal, the same on every machine."""
    digest = hashlib.sha256()
    for path, _ in found:
        digest.update(f"{path.parent.name}/{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def source(folder: Path) -> str:
    """The text of SOURCE in a folder, as one line; empty where there is none. Raises DataError."""
    path = folder / SOURCE
    if not path.is_file():
        return ""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST_SOURCE + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a text in UTF-8 ({error})") from None
    if len(text) > LONGEST_SOURCE:
        raise DataError(f"{path}: expected at most {LONGEST_SOURCE:,} characters; shorten it")
    return " ".join(text.split())


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, but for hidden files."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _places(path: Path, name: str, classes: Sequence[str]) -> tuple[int, ...]:
    known: dict[str, tuple[str, ...]] = {NONE: (), **KINDS, **{each: (each,) for each in classes}}
    if name not in known:
        fitting = [each for each, right in known.items() if set(right) <= {*classes}]
        names = ", ".join([each for each in fitting if "/" not in each][:NAMED])
        raise DataError(
            f"{path}: expected a folder's name to say what its photos show, one of {names}; "
            f"received {name}"
        )
    if lacking := [each for each in known[name] if each not in classes]:
        raise DataError(
            f"{path}: expected data with the class {lacking[0]}, received data of "
            f"{', '.join(classes[:12])}"
        )
    return tuple(sorted(classes.index(each) for each in known[name]))
