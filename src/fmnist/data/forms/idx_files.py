"""A data set in IDX files: MNIST's names, EMNIST's, with a dot, with or without .gz."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fmnist.data.idx import read_pair
from fmnist.data.parts import Labelled, Parts, refuse_impostor, role
from fmnist.errors import DataError

NAME = re.compile(r".*(images|labels)[-._]idx[13][-_]ubyte(\.gz)?", re.IGNORECASE)
EMNIST = {
    "emnist-" + name for name in ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
}
UPRIGHT = "EMNIST's images lie transposed in its files: they are turned upright"
LONGEST_MAPPING = 65_536  # bytes


def read_idx_files(place: Path, paths: Iterable[Path]) -> Parts:
    """The splits in IDX files of one set. Counts and sizes agree, or DataError."""
    files: dict[tuple[str, str], Path] = {}
    for path in paths:
        refuse_impostor(path)
    for path in sorted(paths, key=lambda path: path.suffix != ".gz"):  # its check sum guards it
        name, split, kind = role(path.name)
        if split and kind:
            files.setdefault((split, kind), path)
    wanted = [s for s in ("train", "val", "test") if s != "val" or any(k[0] == s for k in files)]
    if missing := [f"{s} {k}" for s in wanted for k in ("images", "labels") if (s, k) not in files]:
        raise DataError(
            f"{place}: expected IDX files of images and labels for train and test, "
            f"missing {', '.join(missing)}"
        )
    transposed = name in EMNIST
    splits, notes = {}, []
    for split in wanted:
        images, labels = files[split, "images"], files[split, "labels"]
        numbers, pixels = read_pair(labels, images)
        if transposed:
            upright = np.ascontiguousarray(pixels.values.swapaxes(1, 2))
            splits[split] = Labelled(upright, numbers.values)
        else:
            splits[split] = Labelled(pixels.values, numbers.values, pixels.sha256)
    if transposed:
        notes.append(UPRIGHT)
    return Parts(splits, _mapping(place, name), notes)


def _mapping(place: Path, name: str) -> tuple[str, ...] | None:
    """The characters that EMNIST's mapping file gives for labels, in their order."""
    folder = place if place.is_dir() else place.parent
    path = folder / f"{name}-mapping.txt"
    if name not in EMNIST or not path.is_file() or path.stat().st_size > LONGEST_MAPPING:
        return None
    try:
        rows = [[int(word) for word in line.split()] for line in path.read_text().splitlines()]
        names = [chr(row[1]) for row in sorted(rows) if row]
    except (ValueError, IndexError, OverflowError):
        raise DataError(
            f"{path}: expected lines of a label and its character's code; fetch it anew"
        ) from None
    return tuple(names)
