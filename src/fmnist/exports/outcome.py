"""Compares an export's score with the run's own score."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import FmnistError
from fmnist.scoring.figures import Score

ALLOWED = 0.005  # share of the split's images by which an export may score less than the run
FEW = 2  # images, which of a small split say nothing


@dataclass(frozen=True)
class Export:
    """An exported run: its folder, size and score.

    `size` is in bytes, of all `parts`, the names of its files. `accuracy` and `before`, the run's
    own, are of the same `split`, `n` images and `views`; `changed` answers differ,
    `largest_difference` is between logits. `temperature` divides the logits for
    calibrated probabilities. `doubt` and `photo_score` are those of `exports.doubt.on_photos`.
    """

    folder: str
    format: str
    storage: str
    size: int
    parts: list[str]
    split: str
    n: int
    views: str
    accuracy: float
    interval: tuple[float, float]
    before: float
    changed: int
    largest_difference: float
    temperature: float
    doubt: float | None = None
    photo_score: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)


def compare_with_run(
    before: NDArray[Any],
    logits: NDArray[Any],
    labels: NDArray[Any],
    score: Score,
    *,
    folder: Path,
    form: str,
    storage: str,
    size: int,
    parts: list[str],
    temperature: float = 1.0,
    allow_loss: float | None = None,
) -> Export:
    """The export of a `score`, beside what the run scores. Raises FmnistError past the bound.

    `allow_loss` is the bound in points, None for ALLOWED. `before` are the run's own logits and
    `logits` those of the export, (n, classes), for the same images with `labels` (n,). The others
    are as in `Export`.
    """
    was = float((before.argmax(axis=1) == labels).mean())
    allowed = max(ALLOWED, FEW / len(labels)) if allow_loss is None else allow_loss / 100
    if (loss := was - score.accuracy) > allowed:
        enough = math.ceil(1000 * loss) / 10
        raise FmnistError(
            f"{storage}: expected at most {100 * allowed:g} points less than the run's {was:.2%} "
            f"on {score.split}, found {score.accuracy:.2%}; nothing was exported; allow it by "
            f"--allow-loss {enough:g}"
        )
    return Export(
        folder=str(folder),
        format=form,
        storage=storage,
        size=size,
        parts=parts,
        split=score.split,
        n=score.n,
        views=score.views,
        accuracy=score.accuracy,
        interval=score.interval,
        before=was,
        changed=int((before.argmax(axis=1) != logits.argmax(axis=1)).sum()),
        largest_difference=float(np.abs(before - logits).max()),
        temperature=temperature,
    )
