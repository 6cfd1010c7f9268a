"""Describes a data set: counts, brightness, duplicates, and a picture of samples."""

import hashlib
import os
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fmnist.data.splits import Data, mean_and_deviation
from fmnist.errors import UsageError


def describe(data: Data) -> dict[str, Any]:
    """The description that `fmnist data` prints, as a JSON object.

    "duplicates" counts repeated images. For one split: images equal to an earlier one. For a pair
    such as "train-test": distinct images that both splits contain. "mean" and "deviation" are the
    mean and standard deviation of train's pixels / 255. Test is only counted, never scored.
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
    """Write a picture of train's first `per_class` images of each class, one row per class.

    The suffix of `path` chooses the format (.png, .svg, .pdf). Raises UsageError where it cannot be
    written.
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
        raise UsageError(
            f"{path}: the picture cannot be written ({error}); choose another path"
        ) from None
