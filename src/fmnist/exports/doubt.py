"""From which probability on an answer is given as sure, told by photos that were kept apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data import photo_folders
from fmnist.data.image_file import PhotoError
from fmnist.data.photo_folders import Found
from fmnist.errors import DataError, UsageError
from fmnist.inference.classifier import energy
from fmnist.inference.photos import misfit, prepare_photo
from fmnist.runs.run import Run
from fmnist.scoring.calibration import FEWEST, fit_doubt
from fmnist.scoring.views import BATCH


def photos_for(folder: Path, run: Run, whole: bool) -> Found:
    """The photos in a folder that set a run's doubt, see `photo_folders.read`.

    Raises UsageError for a model that no garment is cut out for, for photos that the run has
    learnt, and for fewer than FEWEST photos with a class; DataError as `photo_folders.read`.
    """
    height, width, _ = run.env["shape"]
    if why := "it takes photos whole" if whole else misfit((height, width), whole):
        raise UsageError(f"--photos: expected a model that garments are cut out for: {why}")
    found = photo_folders.read(folder, run.env["classes"])
    if photo_folders.sha256(found) in {each["sha256"] for each in run.env.get("photos", [])}:
        raise UsageError(
            f"--photos: expected photos that the run has not learnt, received {folder}"
        )
    if (count := sum(bool(right) for _, right in found)) < FEWEST:
        raise UsageError(
            f"--photos: expected at least {FEWEST} photos of the model's classes, of which at most "
            f"two in a hundred may be wrong, found {count} in {folder}"
        )
    return found


def on_photos(
    found: Found, answers: Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]], threshold: float
) -> tuple[float, dict[str, Any]]:
    """The probability below which an answer is not sure, and how the photos were answered.

    Args:
        found: from `photos_for`.
        answers: the file: logits and probabilities, float32 (n, classes), of images (n, 28, 28).
        threshold: the energy below which an image is unlike any class.

    Raises DataError for a photo that cannot be read.
    """
    try:
        images = np.stack([prepare_photo(path) for path, _ in found])
    except PhotoError as error:
        raise DataError(f"{error}; convert it to JPEG, or remove it") from None
    made = [answers(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    logits, chance = (
        np.concatenate([each[name] for each in made]) for name in ("logits", "probabilities")
    )
    best = chance.argmax(axis=1)
    right = np.array([answer in allowed for answer, (_, allowed) in zip(best, found, strict=True)])
    has_class = np.array([bool(allowed) for _, allowed in found])
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
        "source": photo_folders.source(found[0][0].parents[1]),
    }
