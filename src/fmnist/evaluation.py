"""From logits to figures: every image counted, n and an interval with every accuracy."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist import runs
from fmnist.data import SealedSplit, Split
from fmnist.errors import RunError, UsageError
from fmnist.recipes import Recipe

CALIBRATION_BINS = 15
BATCH = 250  # images scored at once
ONE_PIXEL = ((-1, 0), (1, 0), (0, -1), (0, 1))
Forward = Callable[[NDArray[np.uint8]], NDArray[Any]]


@dataclass(frozen=True)
class Score:
    """What a run scores on a split."""

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


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927)."""
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"expected 0 <= correct <= n and n >= 1, received {correct} of {n}")
    z = 1.959963984540054  # the standard normal's 97.5 % point
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
        rows.append({
            "low": i / CALIBRATION_BINS, "high": (i + 1) / CALIBRATION_BINS, "n": int(here.sum()),
            "confidence": float(confidence[here].mean()) if here.any() else None,
            "accuracy": float(right[here].mean()) if here.any() else None,
        })  # fmt: skip
    return rows


def expected_calibration_error(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins, weighted (Guo et al. 2017)."""
    bins = [each for each in calibration_bins(logits, labels) if each["n"]]
    gaps = (each["n"] * abs(each["confidence"] - each["accuracy"]) for each in bins)
    return float(sum(gaps) / len(labels))


def score_logits(
    logits: NDArray[Any], labels: NDArray[Any], classes: tuple[str, ...], split: str, *,
    views: str = "one", images_per_second: float = 0.0, times_opened: int | None = None,
) -> Score:  # fmt: skip
    """All figures from logits (n, classes) and labels (n,). Raises UsageError if sizes differ."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if logits.shape != (len(labels), len(classes)) or not len(labels):
        raise UsageError(
            f"{split}: expected logits for {len(labels)} images and {len(classes)} classes, "
            f"received {logits.shape}"
        )
    check_labels(labels, len(classes), split)
    predicted = logits.argmax(axis=1)
    every = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=every, zero_division=0
    )
    correct = int((predicted == labels).sum())
    chance = probabilities(logits)[np.arange(len(labels)), labels]
    return Score(
        split=split, n=len(labels), correct=correct, accuracy=correct / len(labels),
        interval=wilson_interval(correct, len(labels)),
        loss=float(-np.log(np.maximum(chance, 1e-300)).mean()),
        expected_calibration_error=expected_calibration_error(logits, labels),
        per_class=[
            {"class": c, "precision": float(p), "recall": float(r), "f1": float(f), "n": int(s)}
            for c, p, r, f, s in zip(classes, precision, recall, f1, support, strict=True)
        ],
        confusion=confusion_matrix(labels, predicted, labels=every).tolist(),
        views=views, images_per_second=round(images_per_second, 1), times_opened=times_opened,
    )  # fmt: skip


def check_labels(labels: NDArray[Any], classes: int, what: object) -> None:
    """Refuse labels of classes that a model does not know."""
    if labels.min() < 0 or labels.max() >= classes:
        raise UsageError(
            f"{what}: expected labels 0 to {classes - 1}, one a class of the model, received "
            f"{labels.min()} to {labels.max()}"
        )


def compile_forward(model: Any, mean: float, deviation: float) -> Forward:
    """A compiled function from raw uint8 images (n, h, w, 1) to logits; it follows the weights."""
    from fmnist import augment, backend

    return backend.compile_inference(model, lambda x: augment.standardise(x, mean, deviation))


def predict_logits(
    forward: Forward, images: NDArray[np.uint8], views: str = "one", batch: int = BATCH
) -> NDArray[np.float32]:
    """Logits float32 (n, classes) of raw uint8 images (n, h, w, 1), none left out.

    `views="flip"` averages the logits of each image and of its mirror image; `"shift"` gives these
    two half of the weight, and the other half to both moved by a pixel up, down, left and right
    with the border's own values moving in.
    """
    parts = []
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        logits = _both_ways(forward, part) if views != "one" else forward(part)
        if views == "shift":
            moved = [_both_ways(forward, shifted(part, dy, dx)) for dy, dx in ONE_PIXEL]
            logits = (logits + sum(moved) / len(moved)) / 2
        parts.append(logits)
    return np.concatenate(parts).astype(np.float32)


def _both_ways(forward: Forward, images: NDArray[np.uint8]) -> NDArray[Any]:
    """The mean of the logits of images and of their mirror images."""
    return (forward(images) + forward(np.ascontiguousarray(images[:, :, ::-1]))) / 2


def shifted(images: NDArray[np.uint8], dy: int, dx: int) -> NDArray[np.uint8]:
    """Images (n, h, w, 1) moved down by `dy` and right by `dx` pixels, edges repeated."""
    rows = np.clip(np.arange(images.shape[1]) - dy, 0, images.shape[1] - 1)
    columns = np.clip(np.arange(images.shape[2]) - dx, 0, images.shape[2] - 1)
    return images[:, rows[:, None], columns]


def load_model(run: runs.Run, precision: str = "") -> tuple[Any, dict[str, Any]]:
    """A finished run's Keras model with its weights, and what is written about them.

    The model takes standardised images and computes in `precision`, by default the run's own;
    `about` has the mean and deviation to take out, the class names and the image shape. Raises
    RunError where weights and recipe do not fit together.
    """
    from fmnist import models

    about = run.about_weights()
    shape = tuple(about["shape"])
    if len(shape) != 3 or not about["deviation"] > 0:
        raise RunError(f"{run.weights_path}: expected a shape (height, width, 1) and a deviation")
    recipe = Recipe.from_json(run.recipe).changed(precision=precision or run.env["precision"])
    model = models.build(recipe, shape, len(about["classes"]))
    variables = {v.path: v for v in model.variables}
    arrays = run.load_weights({path: tuple(v.shape) for path, v in variables.items()})
    for path, variable in variables.items():
        variable.assign(arrays[path])
    return model, about


def evaluate(run: runs.Run | str, split: Split | SealedSplit) -> Score:
    """Score a finished run on a split; of val and test, score and logits are kept in its folder.

    Everything else is as in `score`.
    """
    run = runs.Run(run)
    found, logits, labels = score(run, split)
    if found.split in ("val", "test"):
        run.save_logits(found.split, logits, labels)
        run.save_score(found.split, found.to_json())
    return found


def score(
    run: runs.Run, split: Split | SealedSplit
) -> tuple[Score, NDArray[np.float32], NDArray[Any]]:
    """A finished run's score on a split, its logits and the labels; the run's folder stays as is.

    A sealed split, which is what a data set's test is, is opened for it: every such scoring gets a
    line in the ledger beside the run folders, and the count is part of the score.

    Raises RunError for a run without weights or with such as give no numbers (nothing goes into the
    ledger then), UsageError for images of another shape, for labels that the model does not know,
    and for val where the run was trained on val.
    """
    recipe = Recipe.from_json(run.recipe)
    sealed = isinstance(split, SealedSplit)
    opened = split.open() if isinstance(split, SealedSplit) else split
    name, trained_on = "test" if sealed else opened.name, run.env["data"]
    if name in ("val", "test") and opened.source != trained_on["hash"]:
        raise UsageError(
            f"{run.path}: expected the data that it was trained on ({trained_on['name']}, hash "
            f"{trained_on['hash'][:16]}), received a set of hash {opened.source[:16] or 'unknown'}"
        )
    if name == "val" and recipe.fit_on == "all":
        raise UsageError(f"{run.path}: was trained on the validation images too; test is left")
    model, about = load_model(run)
    if list(opened.images.shape[1:]) != list(about["shape"]):
        raise UsageError(
            f"{run.path}: expected images of {about['shape']}, which it was trained on, "
            f"received {list(opened.images.shape[1:])}"
        )
    check_labels(opened.labels, len(about["classes"]), run.path)
    forward = compile_forward(model, about["mean"], about["deviation"])
    # No more images at once than training had, which may have been held to a memory limit.
    batch = min(BATCH, run.env["micro_batch"])
    forward(opened.images[:batch])  # compiling is no part of the speed
    begin = time.perf_counter()
    logits = predict_logits(forward, opened.images, recipe.views, batch)
    speed = len(logits) / (time.perf_counter() - begin)
    if not np.isfinite(logits).all():
        raise RunError(f"{run.weights_path}: expected weights that give numbers, found others")
    times = None
    if sealed:
        correct = int((logits.argmax(axis=1) == opened.labels).sum())
        times = run.enter_in_ledger({
            "split": name, "form": "keras",
            "views": recipe.views, "data": opened.source, "n": len(logits), "correct": correct,
        })  # fmt: skip
    found = score_logits(
        logits, opened.labels, tuple(about["classes"]), name,
        views=recipe.views, images_per_second=speed, times_opened=times,
    )  # fmt: skip
    return found, logits, opened.labels
