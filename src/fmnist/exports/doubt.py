"""From which probability on an answer is given as sure, told by photos that were kept apart."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data import photo_folders
from fmnist.errors import UsageError
from fmnist.inference.classifier import energy
from fmnist.inference.photos import prepare_photo
from fmnist.scoring.calibration import fit_doubt
from fmnist.scoring.figures import probabilities


def on_photos(
    folder: Path,
    classes: Sequence[str],
    logits_of: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    temperature: float,
    threshold: float,
) -> tuple[float, dict[str, Any]]:
    """The probability below which an answer is not sure, and how the photos were answered.

    Args:
        folder: photos in a folder a kind, see `photo_folders.read`; none that the model learnt.
        logits_of: gives the file's logits (n, classes) of uint8 images (n, 28, 28).
        threshold: the energy below which an image is unlike any class.

    Raises UsageError where no photo has a class, DataError as `photo_folders.read`.
    """
    found = photo_folders.read(folder, classes)
    images = np.stack([prepare_photo(path) for path, _ in found])
    logits = logits_of(images)
    chance = probabilities(logits.astype(np.float64) / temperature)
    best = chance.argmax(axis=1)
    right = np.array([answer in allowed for answer, (_, allowed) in zip(best, found, strict=True)])
    has_class = np.array([bool(allowed) for _, allowed in found])
    if not has_class.any():
        raise UsageError(f"--photos: expected photos of the model's classes, found none: {folder}")
    unlike = (energy(logits) < threshold) | ~images.any(axis=(1, 2))
    # What was called unlike any class is in doubt already.
    doubt = fit_doubt(np.where(unlike, 0, chance.max(axis=1))[has_class], right[has_class])
    sure = ~unlike & (chance.max(axis=1) >= doubt)
    return doubt, {
        "n": int(has_class.sum()),
        "right": float(right[has_class].mean()),
        "sure": float(sure[has_class].mean()),
        "wrong_and_sure": float((sure & ~right)[has_class].mean()),
        "none": int((~has_class).sum()),
        "none_unlike": float(unlike[~has_class].mean()) if (~has_class).any() else None,
        "source": photo_folders.source(folder),
    }
