"""Decides when a checkpoint is due, saves it, and resumes training from it."""

import time
from collections.abc import Callable

from fmnist.engine import distributed
from fmnist.errors import RunError
from fmnist.runs.run import Run
from fmnist.training.null_run import NullRun
from fmnist.training.stopwatch import Stopwatch
from fmnist.training.trainer import Trainer, require_finite

CHECKPOINT_SECONDS = 300.0
CHECKPOINT_SHARE = 0.01  # of the time may go into checkpoints, unless their interval is given


def default_interval(saving_seconds: float) -> float:
    """Seconds from one checkpoint to the next, where the last one took `saving_seconds`."""
    return max(CHECKPOINT_SECONDS, saving_seconds / CHECKPOINT_SHARE)


class Interval:
    """Tells when the next checkpoint is due.

    Args:
        seconds: from one checkpoint to the next; None: by `default_interval`.
        updates: after each multiple of so many updates there is one as well.
    """

    def __init__(self, seconds: float | None, updates: int | None) -> None:
        self._asked, self._updates = seconds, updates
        self._seconds = default_interval(0) if seconds is None else seconds
        self._saved = time.perf_counter()

    def due(self, update: int) -> bool:
        """Whether a checkpoint is due after `update` updates."""
        return time.perf_counter() - self._saved >= self._seconds or bool(
            self._updates and update % self._updates == 0
        )

    def saved(self, took: float) -> None:
        """Note that a checkpoint was saved just now, in `took` seconds."""
        self._saved = time.perf_counter()
        if self._asked is None:
            self._seconds = default_interval(took)


def save(run: Run | NullRun, trainer: Trainer, update: int, watch: Stopwatch) -> None:
    """Save the whole state after `update` updates. Raises NonFiniteLossError for NaN."""
    state = trainer.state()
    require_finite(state.values(), run.path, update)
    about = {"seconds": watch.seconds, "scoring_seconds": watch.scoring_seconds}
    run.checkpoints.save(update, state, about)


def restore(
    run: Run | NullRun, trainer: Trainer, watch: Stopwatch, report: Callable[[str], object]
) -> int:
    """Load the newest complete checkpoint; returns the number of updates done in it."""
    loaded = run.checkpoints.load(report, trainer.state_shapes())
    about = distributed.share(loaded[1] if loaded else {"update": 0})
    update, updates = int(about["update"]), trainer.task.updates
    if not 0 <= update <= updates:
        raise RunError(
            f"{run.path}: expected a checkpoint of at most {updates} updates, the "
            f"recipe's number, found one of {update}"
        )
    if update:
        trainer.load_state(loaded[0] if loaded else None)
        watch.seconds, watch.scoring_seconds = about["seconds"], about["scoring_seconds"]
    run.keep_metrics(update)
    return update
