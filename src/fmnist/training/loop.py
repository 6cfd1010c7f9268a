"""The training loop, from the newest checkpoint to the weights after the last update."""

import math
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fmnist.engine import backend, distributed
from fmnist.runs.commands import resume_command
from fmnist.runs.run import Run
from fmnist.scoring.figures import score_logits
from fmnist.signals import Interrupted, stop_signals
from fmnist.training import checkpointing, results
from fmnist.training.checkpointing import Interval
from fmnist.training.micro_batch import half_the_micro_batch
from fmnist.training.null_run import NullRun
from fmnist.training.progress import Progress
from fmnist.training.stopwatch import Stopwatch, peak_memory
from fmnist.training.trainer import Trainer, diverged

AtEpoch = Callable[[Mapping[str, Any]], None]
"""Called at the end of an epoch with its line of `metrics.jsonl`."""


def fit(
    trainer: Trainer,
    run: Run | NullRun,
    progress: Progress,
    checkpoint_seconds: float | None,
    checkpoint_updates: int | None,
    at_epoch: Sequence[AtEpoch] = (),
) -> None:
    """Do the remaining updates, then write weights, val logits and val score to the run's folder.

    Each of `at_epoch` is called at the end of an epoch with its line of `metrics.jsonl`. The caller
    holds the run's lock. Raises the same errors in training as `train`.
    """
    with stop_signals() as stop, progress, distributed.watched(resume_command(run.path)):
        run.drop_temporaries()
        loop = Loop(trainer, run, progress, stop, at_epoch)
        loop.train(Interval(checkpoint_seconds, checkpoint_updates))
        results.finish(run, trainer, loop.watch, progress)


class Loop:
    """Steps a trainer, settles results, scores epochs, saves and stops."""

    def __init__(
        self,
        trainer: Trainer,
        run: Run | NullRun,
        progress: Progress,
        stop: Sequence[int],
        at_epoch: Sequence[AtEpoch] = (),
    ) -> None:
        self.trainer, self.task, self.run, self.progress = trainer, trainer.task, run, progress
        self.stop = stop  # the signals that have come
        self.at_epoch = at_epoch
        self.watch = Stopwatch()
        self.running: deque[tuple[int, dict[str, Any]]] = deque()  # updates and what they gave
        self.update = self.begin()  # how many are done

    def train(self, interval: Interval) -> None:
        """All the updates that are left."""
        ahead = backend.updates_ahead()
        while self.update < self.task.updates:
            due = interval.due(self.update + 1)
            epoch_ends = (self.update + 1) % self.task.updates_per_epoch == 0
            logs = self.step(0 if due or epoch_ends else ahead)
            if logs is None:
                self.halve_micro_batch()
                continue
            self.update += 1
            if epoch_ends:
                self.end_epoch(logs)
            stopping = distributed.agree(bool(self.stop), self.update)
            if stopping or (due and self.update < self.task.updates):
                interval.saved(self.save())
            if stopping:
                raise self.interrupted()

    def begin(self) -> int:
        """Load the newest checkpoint, if there is one; returns the number of updates done."""
        trainer, task = self.trainer, self.task
        update = checkpointing.restore(self.run, trainer, self.watch, self.progress.say)
        env = task.env | {"micro_batch": trainer.micro_batch}
        self.progress.start(self.run.path, task.recipe, env, task.updates, update)
        self.watch.start()
        return update

    def step(self, keep: int) -> dict[str, Any] | None:
        """Do the next update, then `settle` and return its result; None if memory runs out."""
        try:
            self.running.append((self.update + 1, self.trainer.step(self.update)))
            return self.settle(keep)
        except Exception as error:
            if not backend.is_out_of_memory(error) or distributed.processes() > 1:
                raise
            return None

    def settle(self, keep: int) -> dict[str, Any]:
        """Wait for all updates except the last `keep`, check their loss and show it.

        Returns the logs of the last finished update.
        """
        logs: dict[str, Any] = {}
        while len(self.running) > keep:
            update, logs = self.running.popleft()
            loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
            if not math.isfinite(loss):
                raise diverged(self.run.path, update, loss)
            self.watch.count()
            self.progress.update(update, loss, accuracy, self.watch.seconds)
        return logs

    def halve_micro_batch(self) -> None:
        """Continue from the newest checkpoint with half the micro-batch."""
        size = half_the_micro_batch(
            self.task, self.trainer.micro_batch, self.run.path, self.update + 1
        )
        halved = self.task.env.setdefault("halved", [])
        halved.append(self.trainer.micro_batch)
        self.run.change_env(micro_batch=size, halved=halved)
        self.running.clear()
        self.trainer.restart(size)
        self.update = self.begin()

    def end_epoch(self, logs: dict[str, Any]) -> None:
        """Score val with one view and append the epoch's line."""
        epoch = self.update // self.task.updates_per_epoch
        line: dict[str, Any] = {
            "epoch": epoch,
            "update": self.update,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
        }
        line |= self.score_val() | self.watch.so_far()
        speed = epoch * len(self.task.images) / self.watch.seconds
        line |= {"images_per_second": round(speed, 1), **peak_memory()}
        self.run.append_metrics(line)
        self.progress.epoch(line)
        for call in self.at_epoch:
            call(line)
        self.watch.start()

    def score_val(self) -> dict[str, Any]:
        """Loss and accuracy on val; empty if val is trained on."""
        val = self.task.val
        if val is None:
            return {}
        begin = time.perf_counter()
        logits = self.trainer.logits(val.images, "one")
        with np.errstate(all="ignore"):  # what is no number is said below
            score = score_logits(logits, val.labels, self.task.classes, "val")
        self.watch.scoring_seconds += time.perf_counter() - begin
        if not math.isfinite(score.loss):
            raise diverged(self.run.path, self.update, score.loss)
        return {"val_loss": score.loss, "val_accuracy": score.accuracy, "val_n": score.n}

    def save(self) -> float:
        """Save a checkpoint; returns the seconds that this took."""
        begin = time.perf_counter()
        self.settle(0)
        checkpointing.save(self.run, self.trainer, self.update, self.watch)
        return time.perf_counter() - begin

    def interrupted(self) -> Interrupted:
        """The error for a stop by a signal, which may have come to another process."""
        return Interrupted(
            self.stop[0] if self.stop else signal.SIGTERM,
            f"stopped after update {self.update} of {self.task.updates}; go on by: "
            f"{resume_command(self.run.path)}",
        )
