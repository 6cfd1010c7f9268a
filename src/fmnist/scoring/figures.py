"""Computes figures from logits: every image counts, every accuracy has n and an interval."""

import dataclasses
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import RunError, UsageError

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Score:
    """The score of a run on a split."""

    split: str
    n: int
    correct: int
    accuracy: float
    interval: tuple[float, float]
    loss: float
    expected_calibration_error: float
    per_class: list[dict[str, Any]]
    confusion: list[list[int]]
    views: str
    images_per_second: float
    times_opened: int | None = None

    def headline(self) -> str:
        """`94.02% (n=10,000, 95% CI 93.54–94.47; test opened 1×)`."""
        low, high = self.interval
        opened = f"; test opened {self.times_opened}×" if self.times_opened else ""
        return (
            f"{self.accuracy:.2%} (n={self.n:,}, 95% CI {100 * low:.2f}–{100 * high:.2f}{opened})"
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)


def wilson_interval(correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927), which holds the true one as often as `level`."""
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"expected 0 <= correct <= n and n >= 1, received {correct} of {n}")
    z = NormalDist().inv_cdf((1 + level) / 2)  # 1.96 for 95 %
    share, spread = correct / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Softmax over the last axis, float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    powers: NDArray[np.float64] = np.exp(shifted)
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def calibration_bins(logits: NDArray[Any], labels: NDArray[Any]) -> list[dict[str, Any]]:
    """Confidence and accuracy by 15 equal bins of confidence, `low` < confidence <= `high`.

    Confidence is the highest probability. `confidence` and `accuracy` are means over a bin's `n`
    images, None where it has none.
    """
    chance = probabilities(logits)
    confidence, right = chance.max(axis=1), chance.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    rows = []
    for i in range(CALIBRATION_BINS):
        here = bins == i
        rows.append(
            {
                "low": i / CALIBRATION_BINS,
                "high": (i + 1) / CALIBRATION_BINS,
                "n": int(here.sum()),
                "confidence": float(confidence[here].mean()) if here.any() else None,
                "accuracy": float(right[here].mean()) if here.any() else None,
            }
        )
    return rows


def expected_calibration_error(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins, weighted (Guo et al. 2017)."""
    bins = [each for each in calibration_bins(logits, labels) if each["n"]]
    gaps = (each["n"] * abs(each["confidence"] - each["accuracy"]) for each in bins)
    return float(sum(gaps) / len(labels))


def score_logits(
    logits: NDArray[Any],
    labels: NDArray[Any],
    classes: tuple[str, ...],
    split: str,
    *,
    views: str = "one",
    images_per_second: float = 0.0,
    times_opened: int | None = None,
) -> Score:
    """All figures from logits (n, classes) and labels (n,). Raises UsageError if sizes differ."""
    if logits.shape != (len(labels), len(classes)) or not len(labels):
        raise UsageError(
            f"{split}: expected logits for {len(labels)} images and {len(classes)} classes, "
            f"received {logits.shape}"
        )
    check_labels(labels, len(classes), split)
    predicted = logits.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (labels.astype(np.intp), predicted), 1)
    correct = int(confusion.trace())
    chance = probabilities(logits)[np.arange(len(labels)), labels]
    return Score(
        split=split,
        n=len(labels),
        correct=correct,
        accuracy=correct / len(labels),
        interval=wilson_interval(correct, len(labels)),
        loss=float(-np.log(np.maximum(chance, 1e-300)).mean()),
        expected_calibration_error=expected_calibration_error(logits, labels),
        per_class=by_class(confusion, classes),
        confusion=confusion.tolist(),
        views=views,
        images_per_second=round(images_per_second, 1),
        times_opened=times_opened,
    )


def by_class(confusion: NDArray[np.int64], classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of images by class, from counts (true class, answer).

    A ratio with nothing below the line is 0. NumPy's own: scikit-learn has these figures too, and
    to import it takes a process a second.
    """
    right, labelled, answered = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    rows = zip(classes, right.tolist(), labelled.tolist(), answered.tolist(), strict=True)
    return [
        {
            "class": name,
            "precision": r / max(a, 1),
            "recall": r / max(n, 1),
            "f1": 2 * r / max(n + a, 1),
            "n": n,
        }
        for name, r, n, a in rows
    ]


def check_labels(labels: NDArray[Any], classes: int, what: object) -> None:
    """Raise UsageError for labels of classes that a model does not have."""
    if labels.min() < 0 or labels.max() >= classes:
        raise UsageError(
            f"{what}: expected labels 0 to {classes - 1}, one per class of the model, received "
            f"{labels.min()} to {labels.max()}"
        )


def shifted(images: NDArray[np.uint8], dy: int, dx: int) -> NDArray[np.uint8]:
    """Images (n, h, w, 1) moved down by `dy` and right by `dx` pixels, edges repeated."""
    rows = np.clip(np.arange(images.shape[1]) - dy, 0, images.shape[1] - 1)
    columns = np.clip(np.arange(images.shape[2]) - dx, 0, images.shape[2] - 1)
    return images[:, rows[:, None], columns]


def headline(score: dict[str, Any] | None) -> str:
    """`94.02% (n=10,000, 95% CI 93.54–94.47; test opened 1×)` of a recorded score, or a dash."""
    if score is None:
        return "–"
    return read_score(score).headline()


def read_score(score: dict[str, Any]) -> Score:
    """A score as `Score.to_json` gave it to score.json."""
    try:
        return Score(**score)
    except TypeError as error:
        raise RunError(f"score.json: expected a score of this version ({error})") from None
