"""A data set as four IDX files under Fashion-MNIST's names."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fmnist.data.idx import IdxFile
from fmnist.data.splits import Data, Split, assemble
from fmnist.errors import DataError


def read_idx_files(
    name: str, classes: tuple[str, ...] | None, place: Path, files: Mapping[str, IdxFile]
) -> Data:
    """Make a data set from four IDX files that were read. Raises DataError."""
    splits = []
    for split in ("train", "t10k"):
        labels = files[f"{split}-labels-idx1-ubyte"]
        if classes is None:  # without names the train split, read first, says how many there are
            classes = tuple(map(str, range(int(labels.values.max()) + 1)))
        if labels.values.max() >= len(classes):
            raise DataError(
                f"{labels.path}: expected labels 0 to {len(classes) - 1}, received "
                f"{labels.values.max()}; classes.txt must name all classes, in "
                "the order of the labels"
            )
        images = files[f"{split}-images-idx3-ubyte"].values[..., np.newaxis]
        splits.append(Split(images, labels.values.astype(np.int32)))
    hashes = {stem: file.sha256 for stem, file in sorted(files.items())}
    return assemble(name, classes or (), place, splits[0], splits[1], hashes)
