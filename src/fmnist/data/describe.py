"""Describes a data set: counts, brightness, duplicates, and a picture of samples."""

import io
import os
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fmnist import files
from fmnist.data.splits import Data, image_hashes, mean_and_deviation
from fmnist.errors import UsageError

MARK = "made by fmnist data"
PICTURES: dict[str, dict[str, Any]] = {  # how a picture of each kind gets the mark
    ".png": {"metadata": {"Software": MARK}},
    ".svg": {"metadata": {"Creator": MARK}},
    ".pdf": {"metadata": {"Creator": MARK}},
    ".jpg": {"pil_kwargs": {"comment": MARK}},
}


def describe(data: Data) -> dict[str, Any]:
    """The description that `fmnist data` prints, as a JSON object.

    "duplicates" counts repeated images. For one split: images equal to an earlier one. For a pair
    such as "train-test": distinct images that both splits contain. "mean" and "deviation" are the
    mean and standard deviation of train's pixels / 255. Test is only counted, never scored.
    """
    splits = {"train": data.train, "val": data.val, "test": data.test.open()}
    different = {name: image_hashes(split.images) for name, split in splits.items()}
    duplicates = {name: len(split) - len(different[name]) for name, split in splits.items()}
    for one, other in combinations(splits, 2):
        duplicates[f"{one}-{other}"] = len(different[one] & different[other])
    mean, deviation = mean_and_deviation(data.train.images)
    return {
        "name": data.name,
        "folder": str(data.folder) if data.folder else "",
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

    The suffix of `path` chooses the format. Raises UsageError for another one, and for a file that
    is no such picture, RunError where it cannot be written.
    """
    if per_class < 1:
        raise UsageError(f"per_class: expected at least 1, received {per_class}")
    path = check_picture(path)
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
    form, drawn = path.suffix.lower(), io.BytesIO()
    figure.savefig(drawn, format=form[1:], **PICTURES[form])
    # From memory: into a file, Pillow's JPEG encoder takes no note of a disk that is full.
    files.write_own(path, MARK, lambda place: place.write_bytes(drawn.getvalue()))


def check_picture(path: str | os.PathLike[str]) -> Path:
    """The path of a picture to draw. Raises UsageError as `draw_samples` does."""
    path = Path(path)
    if path.suffix.lower() not in PICTURES:
        raise UsageError(f"{path}: expected a name in {', '.join(PICTURES)}")
    files.require_own(path, MARK)
    return path
