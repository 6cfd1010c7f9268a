"""Scores a run on a split, and notes each scoring of test in the ledger."""

import dataclasses
import time
from typing import Any

import numpy as np
from numpy import typing as npt
from numpy.typing import NDArray

from fmnist.data.splits import SealedSplit, Split
from fmnist.errors import RunError, UsageError
from fmnist.runs.ledger import SCORE
from fmnist.runs.run import Run, find_run
from fmnist.scoring.figures import Score, check_labels, score_logits
from fmnist.scoring.views import BATCH, Forward, predict_logits


def compile_forward(model: Any, mean: float, deviation: float) -> Forward:
    """A compiled function from raw uint8 images (n, h, w, 1) to logits; it follows the weights."""
    from fmnist.engine import augment, backend

    return backend.compile_inference(model, lambda x: augment.standardise(x, mean, deviation))


def load_model(run: Run, precision: str = "") -> tuple[Any, dict[str, Any]]:
    """A finished run's Keras model with its weights, and their metadata `about`.

    The model takes standardised images and computes in `precision`, by default the run's own;
    `about` has the mean and deviation to take out, the class names and the image shape. Raises
    RunError where weights and recipe do not fit together.
    """
    from fmnist.engine import networks

    about = run.about_weights()
    shape = tuple(about["shape"])
    if len(shape) != 3 or not about["deviation"] > 0:
        raise RunError(
            f"{run.weights_path}: expected a shape (height, width, 1) and a deviation above 0"
        )
    recipe = run.recipe.changed(precision=precision or run.env["precision"])
    model = networks.build(recipe, shape, len(about["classes"]))
    variables = {v.path: v for v in model.weights}
    arrays = run.load_weights({path: tuple(v.shape) for path, v in variables.items()})
    for path, variable in variables.items():
        variable.assign(arrays[path])
    return model, about


def evaluate(
    run: Run | str, split: Split | SealedSplit | tuple[npt.ArrayLike, npt.ArrayLike]
) -> Score:
    """Score a finished run on a split; for val and test, save score and logits in its folder.

    `split` is `data.val`, `data.test`, which is sealed: it is opened, and the ledger notes it; or a
    pair of images, whole numbers of 0 to 255 (n, height, width) or (n, height, width, 1), and
    labels (n,), as the data has them: class names, or their numbers. Raises RunError for a run
    without weights, UsageError for images that do not fit it, and for val where the run was trained
    on val, DataError for labels that are no classes.
    """
    run = find_run(run)
    if isinstance(split, tuple | list):
        if len(split) != 2:
            raise UsageError(
                f"evaluate: expected a pair of images and labels, received {len(split)}"
            )
        split = Split.from_arrays(*split, classes=run.env["classes"])
    found, logits, labels = score(run, split)
    found = note(run, found)
    if found.split in ("val", "test"):
        run.save_logits(found.split, logits, labels)
        run.save_score(found.split, found.to_json())
    return found


def score(run: Run, split: Split | SealedSplit) -> tuple[Score, NDArray[np.float32], NDArray[Any]]:
    """A finished run's score on a split, its logits and the labels; the run's folder stays as is.

    A sealed split, which is what a data set's test is, is opened for it: the caller passes the
    score to `note`.

    Raises RunError for a run without weights or with such as give no numbers, UsageError for images
    of another shape, for labels that the model does not know, and for val where the run was trained
    on val.
    """
    recipe, sealed = run.recipe, isinstance(split, SealedSplit)
    opened = split.open() if isinstance(split, SealedSplit) else split
    name = "test" if sealed else opened.name
    if name in ("val", "test"):
        run.require_data(opened.source, "another set")
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
        raise RunError(
            f"{run.weights_path}: expected weights that give finite logits, found others"
        )
    found = score_logits(
        logits,
        opened.labels,
        tuple(about["classes"]),
        name,
        views=recipe.views,
        images_per_second=speed,
    )
    return found, logits, opened.labels


def note(run: Run, found: Score, kind: str = SCORE, form: str = "keras") -> Score:
    """A score of test with its count, once the ledger has its line; another as it is.

    Every scoring of test gets a line in the ledger beside the run folders, of its `kind` (see
    `runs.ledger`) and for the `form` of file that answered.
    """
    if found.split != "test":
        return found
    values: dict[str, Any] = {"split": "test", "form": form, "views": found.views}
    values |= {"data": run.env["data"]["hash"], "n": found.n, "correct": found.correct}
    return dataclasses.replace(found, times_opened=run.enter_in_ledger(values, kind))
