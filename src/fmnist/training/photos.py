"""Photos that are learnt together with a data set's images.

Several classes may be right for a photo, or none: see `task.cross_entropy`.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data import photo_folders
from fmnist.data.image_file import PhotoError
from fmnist.data.photo_folders import Found
from fmnist.data.splits import Split, are_on_black
from fmnist.errors import DataError, RunError, UsageError
from fmnist.inference.photos import SIDE, prepare_photo

ENOUGH = 1000  # images that tell whether a data set's ground is black


@dataclass(frozen=True, eq=False)
class Photos:
    """Prepared photos: uint8 (m, 28, 28, 1); `allowed`, bool (m, classes), says what is right."""

    images: NDArray[np.uint8]
    allowed: NDArray[np.bool_]

    @property
    def sha256(self) -> str:
        """The hash of the pixels and of what is right, hexadecimal."""
        return hashlib.sha256(self.images.tobytes() + self.allowed.tobytes()).hexdigest()


def prepare(found: Found, classes: int, seed: int) -> Photos:
    """Each photo as an image of the data set, as `fmnist predict` prepares it."""
    images = np.stack([prepare_photo(path) for path, _ in found])[..., np.newaxis]
    allowed = np.zeros((len(found), classes), bool)
    for row, (_, right) in zip(allowed, found, strict=True):
        row[list(right)] = True
    return Photos(images, allowed)


def load(
    folder: Path, split: Split, classes: Sequence[str], seed: int, say: Callable[[str], None]
) -> tuple[Photos, dict[str, Any]]:
    """The photos in a folder, prepared, and their record for `env.json`.

    Raises UsageError where `split` is not of 28×28 pixels on black, DataError for a folder that
    `photo_folders.read` refuses and for a photo that cannot be read.
    """
    require_fitting(split)
    found, source = photo_folders.read(folder, classes), photo_folders.source(folder)
    say(f"preparing {len(found):,} photos of {folder}")
    try:
        photos = prepare(found, len(classes), seed)
    except PhotoError as error:
        raise DataError(f"{error}; convert it to JPEG, or remove it") from None
    return photos, {
        "folder": str(folder.resolve()),
        "files": len(found),
        "images": len(photos.images),
        "kinds": dict(Counter(path.parent.name for path, _ in found)),
        "sha256": photos.sha256,
        "source": source,
    }


def require_fitting(split: Split) -> None:
    """Raise UsageError where photos do not become like the images of a split."""
    height, width, _ = split.images.shape[1:]
    some = split.images[:: max(1, len(split) // ENOUGH), :, :, 0]
    on_black = are_on_black(some).mean() > 0.5
    if (height, width) != (SIDE, SIDE) or not on_black:
        raise UsageError(
            f"--photos: expected data of {SIDE} × {SIDE} pixels on black, as garments of photos "
            f"become, received {width} × {height} pixels on {'black' if on_black else 'others'}"
        )


def require_same(env: Mapping[str, Any], photos: Photos | None) -> None:
    """Raise RunError unless the photos are those that a run's `env.json` records."""
    then = [each["sha256"] for each in env.get("photos", [])]
    now = [photos.sha256] if photos else []
    if then != now:
        before, after = (values[0][:12] if values else "none" for values in (then, now))
        raise RunError(
            f"the run was begun with photos {before}, here they are {after}; put the old ones "
            "back, or start a new run"
        )
