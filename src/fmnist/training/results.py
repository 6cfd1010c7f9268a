"""Writes the results of a finished training to its run folder."""

import time
from typing import Any

from numpy.typing import NDArray

from fmnist.runs.run import SCHEMA, Run, now
from fmnist.scoring.figures import score_logits
from fmnist.training.null_run import NullRun
from fmnist.training.progress import Progress
from fmnist.training.stopwatch import Stopwatch, peak_memory
from fmnist.training.trainer import Trainer, require_finite


def finish(run: Run | NullRun, trainer: Trainer, watch: Stopwatch, progress: Progress) -> None:
    """Score val with the recipe's views, write the weights, drop the checkpoints.

    Raises NonFiniteLossError for weights that are NaN or infinite.
    """
    weights = trainer.weights()
    require_finite(weights.values(), run.path, trainer.task.updates)
    watch.count()
    if isinstance(run, NullRun):
        return  # the first process alone scores
    _score_val(run, trainer)
    last = {"finished": now(), "update": trainer.task.updates}
    run.append_metrics(last | watch.so_far() | peak_memory())
    _write_weights(run, trainer.task.env, weights)
    run.checkpoints.drop()
    progress.finish(run)


def _score_val(run: Run, trainer: Trainer) -> None:
    task, val = trainer.task, trainer.task.val
    if val is None:
        return
    views, begin = task.recipe.views, time.perf_counter()
    logits = trainer.logits(val.images, views)
    speed = len(logits) / (time.perf_counter() - begin)
    score = score_logits(
        logits, val.labels, task.classes, "val", views=views, images_per_second=speed
    )
    run.save_logits("val", logits, val.labels)
    run.save_score("val", score.to_json())


def _write_weights(run: Run, env: dict[str, Any], weights: dict[str, NDArray[Any]]) -> None:
    """They come last: with them the run is finished."""
    about = {key: env[key] for key in ("mean", "deviation", "shape", "classes")}
    about |= {"schema": SCHEMA, "form": "last update", "origin": run.origin}
    run.save_weights(weights, about)
