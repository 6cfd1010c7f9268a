"""Teachers: finished runs whose outputs a student learns besides the labels (Hinton et al. 2015).

Teacher and student see the same crops, flips and cutouts. The teacher's outputs are computed in
each update and never stored. Several teachers' logits are averaged.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fmnist import files
from fmnist.data.splits import Data
from fmnist.engine import networks, ops
from fmnist.errors import RunError, UsageError
from fmnist.recipes.recipe import Recipe
from fmnist.runs.run import Run
from fmnist.scoring.evaluate import load_model

Loss = Callable[[Any, Any], Any]


def describe(teachers: Iterable[Run], recipe: Recipe, data: Data) -> list[dict[str, str]]:
    """The folder and the weights' SHA-256 of each teacher, for `env.json`.

    Raises RunError for a run without weights, UsageError for one that was trained on other data, or
    on validation images that the student is not trained on.
    """
    found = []
    for run in teachers:
        run.require_weights()
        run.require_data(data.hash, data.name)
        if recipe.fit_on == "train" and run.recipe.fit_on == "all":
            raise UsageError(
                f"--teacher {run.path}: was trained on the validation images too, so the student "
                "would learn them; train the student with --fit-on all, or take another teacher"
            )
        found.append({"run": str(run.path.resolve()), "weights": files.sha256(run.weights_path)})
    return found


def load(
    teachers: list[dict[str, str]], recipe: Recipe, mean: float, deviation: float
) -> Callable[[Any, Any], Any] | None:
    """A function that makes the loss's targets; None if there is no teacher.

    Args:
        teachers: from `describe`.
        recipe: the student's recipe; the teachers use its augmentation and its precision, which
            suits this machine.
        mean, deviation: those that standardise the student's images.

    The function takes the step's images, standardised (n, h, w, 1), and labels (n,), and returns
    float32 (n, 1 + classes): the label and the teachers' mean logits, as `loss` wants them. Call it
    inside `augment.step`. Raises RunError for a teacher that is missing or has changed.
    """
    if not teachers:
        return None
    loaded = []
    for entry in teachers:
        run = Run(Path(entry["run"]))
        run.require_weights()
        if files.sha256(run.weights_path) != entry["weights"]:
            raise RunError(f"{run.path}: its weights have changed since it began to teach this run")
        model, about = load_model(run, recipe.precision)
        scale = deviation / about["deviation"]
        shift = (mean - about["mean"]) / about["deviation"]
        loaded.append((model, np.float32(scale), np.float32(shift)))
    augmentation = networks.augmentation(recipe)

    def teach(images: Any, labels: Any) -> Any:
        for layer in augmentation:
            images = layer(images, training=True)
        logits = sum(
            ops.cast(model(images * scale + shift, training=False), "float32")
            for model, scale, shift in loaded
        )
        column = ops.reshape(ops.cast(labels, "float32"), (-1, 1))
        return ops.concatenate([column, logits / len(loaded)], axis=1)

    return teach


def loss(hard: Loss, share: float, temperature: float) -> Loss:
    """The loss of a student: (1 - share) × `hard` + share × T² × cross-entropy with the teacher.

    The second cross-entropy is between teacher and student at temperature T (Hinton, Vinyals & Dean
    2015, equation 4 and the T² of their section 2). Targets are those of `load`. A photo, whose
    label is no class, has the hard loss alone.
    """

    def mixed(targets: Any, logits: Any) -> Any:
        logits = ops.cast(logits, "float32")
        taught = ops.softmax(targets[:, 1:] / temperature)
        soft = -ops.sum(taught * ops.log_softmax(logits / temperature), axis=-1)
        labels = ops.cast(targets[:, 0], "int32")
        labelled = hard(labels, logits)
        both = (1 - share) * labelled + share * temperature**2 * soft
        return ops.where(labels < logits.shape[-1], both, labelled)

    return mixed
