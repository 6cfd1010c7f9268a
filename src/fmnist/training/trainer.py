"""The training loop, its checkpoints, and how it goes on after an interruption."""

import gc
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fmnist import system
from fmnist.data.splits import Split
from fmnist.engine import backend, distributed, keras, networks, ops, optimizers
from fmnist.errors import NonFiniteLossError, OutOfMemoryError, RunError, UsageError
from fmnist.recipes.recipe import Recipe
from fmnist.runs import run as runs
from fmnist.runs.commands import command, resume_command
from fmnist.scoring.evaluate import compile_forward
from fmnist.scoring.figures import score_logits
from fmnist.scoring.views import BATCH, predict_logits
from fmnist.signals import Interrupted, stop_signals
from fmnist.training import teachers
from fmnist.training.plan import largest_micro_batch
from fmnist.training.progress import Progress
from fmnist.training.update import Updater, micro_batched

CHECKPOINT_SECONDS = 300.0
CHECKPOINT_SHARE = 0.01  # of the time may go into checkpoints, unless their interval is given


def cross_entropy(smoothing: float) -> Any:
    """Cross-entropy of integer labels and logits, the target spread by `smoothing` over classes.

    With smoothing s and k classes the target is 1 - s + s/k for the label and s/k for the others
    (Szegedy et al. 2016).
    """

    def loss(labels: Any, logits: Any) -> Any:
        logits = ops.cast(logits, "float32")
        chosen = ops.one_hot(ops.reshape(labels, (-1,)), logits.shape[-1], dtype="float32")
        target = (1 - smoothing) * chosen + smoothing / logits.shape[-1]
        return -ops.sum(target * ops.log_softmax(logits), axis=-1)

    return loss


def epoch_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of n images in an epoch, by seed and epoch alone (NumPy's frozen legacy stream)."""
    return np.random.RandomState([seed, epoch]).permutation(n)


def default_interval(saving_seconds: float) -> float:
    """Seconds from one checkpoint to the next, where the last one took `saving_seconds`."""
    return max(CHECKPOINT_SECONDS, saving_seconds / CHECKPOINT_SHARE)


class Trainer:
    """A model in training: what `train` and `resume` have in common."""

    def __init__(
        self, recipe: Recipe, env: dict[str, Any], split: Split, val: Split | None = None
    ) -> None:
        recipe = recipe.changed(precision=env["precision"])
        self.recipe, self.env = recipe, env
        self.images, self.labels = split.images, split.labels
        self.val = val if recipe.fit_on == "train" else None
        self.updates_per_epoch = math.ceil(len(split) / recipe.batch_size)
        self.updates = self.updates_per_epoch * recipe.epochs
        self.model = self.build()
        self.teach = teachers.load(env.get("teachers", []), recipe, env["mean"], env["deviation"])
        self.seconds = self.scoring_seconds = self.saving_seconds = 0.0

    def build(self) -> keras.Model:
        """The model as the run begins with it."""
        return networks.build(self.recipe, tuple(self.env["shape"]), len(self.env["classes"]))

    def make_updater(self, size: int) -> Updater:
        """The update step with micro-batches of `size`."""
        batch = min(self.recipe.batch_size, len(self.images))
        undivided = size >= batch
        if min(size, batch) % distributed.devices():
            raise UsageError(
                f"--distributed: expected a batch, or micro-batch, that {distributed.devices()} "
                f"devices can share evenly, received {min(size, batch)}; take another number of "
                "processes, or --set batch_size="
            )
        wrapped = micro_batched(self.model, None if undivided else size, seed=self.recipe.seed)
        wrapped.teach = self.teach
        loss = cross_entropy(self.recipe.label_smoothing)
        if self.teach:
            loss = teachers.loss(loss, self.recipe.distillation, self.recipe.temperature)
        wrapped.compile(
            optimizer=optimizers.build(self.recipe, self.updates, self.model.layers[-1].name),
            loss=loss,
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        return Updater(wrapped, self.images, self.labels, self.env["mean"], self.env["deviation"])

    def choose_micro_batch(
        self, asked: int | None, limit: int | None
    ) -> tuple[int, dict[str, int] | None]:
        """The micro-batch to use, and the peaks in bytes by micro-batch where measured."""
        batch = min(self.recipe.batch_size, len(self.images))
        if self.recipe.batch_statistics:
            asked = self.recipe.micro_batch or self.recipe.batch_size
        own = backend.accelerator_memory()[0]
        allowed = limit or int(0.8 * (own or system.available() or 2**62))
        if limit is None and (asked or self.estimate(batch) < allowed / 2):
            return asked or batch, None
        if own:
            found = largest_micro_batch(self.planned_peak_of, batch, allowed, asked)
        else:
            # Beside the updates there are the images, of which a split is a copy of what was read.
            images = self.images.nbytes + (self.val.images.nbytes if self.val else 0)
            found = largest_micro_batch(self.peak_of, batch, allowed - 2 * images, asked)
        size, peaks = found
        return asked or size, {str(k): v for k, v in peaks.items()}

    def planned_peak_of(self, size: int) -> int:
        """Bytes of an accelerator that updates with micro-batches of `size` are planned to take.

        No process of its own could try there: this one has taken the memory.
        """
        count = min(self.recipe.batch_size, len(self.images), 2 * size)
        planned = self.make_updater(size).planned_bytes(count)
        gc.collect()  # the trial's optimiser, which else stays on the device
        return planned

    def peak_of(self, size: int) -> int | None:
        """Peak memory in bytes of a process that trains and saves with micro-batches of `size`.

        A process of its own, since an engine keeps what it once had, and one that asks too much is
        killed: then None.
        """
        task = {"recipe": self.recipe.to_json(), "env": self.env, "micro_batch": size}
        done = subprocess.run(
            [sys.executable, "-m", "fmnist.training.probe"],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"KERAS_BACKEND": backend.name()},
        )
        if done.returncode == 0:
            return int(done.stdout.split()[-1])
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if done.returncode < 0 or "emory" in last or "OOM" in last:
            return None
        raise RunError(f"memory: the trial of a micro-batch of {size} failed ({last})")

    def estimate(self, batch: int) -> int:
        """A generous guess at the bytes one update needs undivided: weights, state, activations."""
        elements = sum(
            math.prod(d or 1 for d in out.shape)
            for layer in self.model.layers
            for out in keras.tree.flatten(layer.output)
        )
        return 8 * 4 * int(self.env["parameters"]) + batch * elements * 4 * 4

    def fit(
        self,
        run: runs.Run | None,
        every_seconds: float | None,
        every_updates: int | None,
        progress: Progress,
    ) -> runs.Run:
        """All the updates that are left, then weights, logits and score of val into the folder.

        `run` is None, and returned as it is, in all but the first of several processes.
        """
        self.path = Path(distributed.share(str(run.path) if run else ""))
        ahead, go_on = backend.updates_ahead(), resume_command(self.path)
        lock = run.locked() if run else nullcontext()
        with lock, stop_signals() as stop, progress, distributed.watched(go_on):
            if run:
                run.drop_temporaries()
            update = self.prepare(run, progress)
            saved = self.begin = time.perf_counter()
            while update < self.updates:
                interval = (
                    default_interval(self.saving_seconds)
                    if every_seconds is None
                    else every_seconds
                )
                due = time.perf_counter() - saved >= interval
                due = bool(due or (every_updates and (update + 1) % every_updates == 0))
                ends = (update + 1) % self.updates_per_epoch == 0
                try:
                    self.running.append((update + 1, self.one_update(update)))
                    logs = self.settle(0 if due or ends else ahead, progress)
                except Exception as error:
                    if not backend.is_out_of_memory(error) or distributed.processes() > 1:
                        raise
                    self.halve_micro_batch(run, update + 1)
                    update = self.prepare(run, progress)
                    self.begin = time.perf_counter()
                    continue
                update += 1
                if ends:
                    self.end_epoch(run, update, logs, progress)
                    self.begin = time.perf_counter()
                stopping = distributed.agree(bool(stop), update)
                if stopping or (due and update < self.updates):
                    start = time.perf_counter()
                    self.settle(0, progress)
                    self.save(run, update)
                    saved = time.perf_counter()
                    self.saving_seconds = saved - start
                if stopping:
                    raise Interrupted(
                        stop[0] if stop else signal.SIGTERM,
                        f"stopped after update {update} of {self.updates}; go on by: {go_on}",
                    )
            self.finish(run)
            if run:
                progress.finish(run)
        return cast(runs.Run, run)

    def settle(self, keep: int, progress: Progress) -> dict[str, Any]:
        """Wait for updates, but for the last `keep`, look at their loss and show it.

        Returns what the last of them gave.
        """
        logs: dict[str, Any] = {}
        while len(self.running) > keep:
            update, logs = self.running.popleft()
            loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
            if not math.isfinite(loss):
                raise self.diverged(update, loss)
            self.count_time()
            progress.update(update, loss, accuracy, self.seconds)
        return logs

    def count_time(self) -> None:
        """Add what has passed since `begin` to the seconds of training."""
        now = time.perf_counter()
        self.seconds, self.begin = self.seconds + now - self.begin, now

    def prepare(self, run: runs.Run | None, progress: Progress) -> int:
        """Compile the update and load the newest checkpoint; returns the updates behind it."""
        self.running: deque[tuple[int, dict[str, Any]]] = deque()  # updates and what they gave
        self.updater = self.make_updater(self.env["micro_batch"])
        self.forward = compile_forward(self.updater.model, self.env["mean"], self.env["deviation"])
        update = self.restore(run, progress)
        progress.start(self.path, self.recipe, self.env, self.updates, update)
        return update

    def halve_micro_batch(self, run: runs.Run | None, update: int) -> None:
        """After an update for which memory was short: a model to begin with at half the size."""
        size = self.env["micro_batch"]
        short = f"update {update}: memory is short for {size} images at once"
        if self.recipe.batch_statistics:
            fewer = command("train", self.recipe.name, "--set", f"micro_batch={size // 2}")
            raise OutOfMemoryError(
                f"{short}, over which the model takes its statistics; go on where there is more by "
                f"{resume_command(self.path)}, or start anew with fewer by {fewer}"
            )
        if size == 1:
            raise OutOfMemoryError(f"{short}; close other programs, or train a smaller network")
        self.env["micro_batch"] = size // 2
        if run:
            run.change_env(micro_batch=size // 2)
        del self.updater, self.running  # and what they hold on the device, before there are others
        self.model = self.build()

    def one_update(self, update: int) -> dict[str, Any]:
        """Update number `update`, counted from 0: its images by the epoch's order."""
        epoch, place = divmod(update, self.updates_per_epoch)
        if place == 0 or not hasattr(self, "order"):
            self.order = epoch_order(self.recipe.seed, epoch, len(self.images))
        if place == 0:
            self.updater.reset_metrics()
        index = self.order[place * self.recipe.batch_size :][: self.recipe.batch_size]
        return self.updater(index)

    def end_epoch(
        self, run: runs.Run | None, update: int, logs: dict[str, Any], progress: Progress
    ) -> None:
        """Score val by one view and append the epoch's line."""
        line: dict[str, Any] = {
            "epoch": update // self.updates_per_epoch,
            "update": update,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
        }
        if self.val is not None:
            begin = time.perf_counter()
            logits = self.logits(self.val.images, "one")
            score = score_logits(logits, self.val.labels, tuple(self.env["classes"]), "val")
            line |= {"val_loss": score.loss, "val_accuracy": score.accuracy, "val_n": score.n}
            self.scoring_seconds += time.perf_counter() - begin
            if not math.isfinite(score.loss):
                raise self.diverged(update, score.loss)
        line |= {
            "seconds": round(self.seconds, 3),
            "scoring_seconds": round(self.scoring_seconds, 3),
            "images_per_second": round(line["epoch"] * len(self.images) / self.seconds, 1),
            **_peaks(),
        }
        if run:
            run.append_metrics(line)
        progress.epoch(line)

    def diverged(self, update: int, loss: float) -> NonFiniteLossError:
        """The error for a loss that is no number."""
        return NonFiniteLossError(
            f"update {update}: expected a finite loss, received {loss}; the last good checkpoint "
            f"of {self.path} is kept; start a new run with a lower learning_rate"
        )

    def finish(self, run: runs.Run | None) -> None:
        """Score val with the recipe's views, write the weights, drop the checkpoints."""
        self.updater.variables()
        weights = {v.path: backend.view(v) for v in self.model.variables}
        if len(weights) != len(self.model.variables):
            raise RunError("two weights of the model share a name")
        if not _all_finite(weights.values()):
            raise self.diverged(self.updates, math.nan)
        self.count_time()
        if not run:
            return
        if self.val is not None:
            start = time.perf_counter()
            logits = self.logits(self.val.images, self.recipe.views)
            speed = len(logits) / (time.perf_counter() - start)
            score = score_logits(
                logits,
                self.val.labels,
                tuple(self.env["classes"]),
                "val",
                views=self.recipe.views,
                images_per_second=speed,
            )
            run.save_logits("val", logits, self.val.labels)
            run.save_score("val", score.to_json())
        run.append_metrics(
            {
                "finished": runs.now(),
                "update": self.updates,
                "seconds": round(self.seconds, 3),
                "scoring_seconds": round(self.scoring_seconds, 3),
                **_peaks(),
            }
        )
        # The weights come last: with them the run is finished.
        about = {key: self.env[key] for key in ("mean", "deviation", "shape", "classes")}
        run.save_weights(weights, about | {"schema": runs.SCHEMA, "form": "last update"})
        run.checkpoints.drop()

    def logits(self, images: NDArray[Any], views: str) -> NDArray[np.float32]:
        """Logits in batches that take no more memory than training does."""
        self.updater.variables()
        batch = min(BATCH, self.env["micro_batch"])
        return predict_logits(self.forward, images, views, batch)

    def save(self, run: runs.Run | None, update: int) -> None:
        """Keep the whole state: weights, optimiser and the epoch's running sums."""
        if not run:
            return
        variables = self.updater.variables()
        arrays = {f"{i:04} {v.path}": backend.view(v) for i, v in enumerate(variables)}
        if not _all_finite(arrays.values()):
            raise self.diverged(update, math.nan)
        about = {"seconds": self.seconds, "scoring_seconds": self.scoring_seconds}
        run.checkpoints.save(update, arrays, about)

    def restore(self, run: runs.Run | None, progress: Progress) -> int:
        """Load the newest whole checkpoint; returns the number of updates it has behind it."""
        variables = self.updater.variables()
        names = [f"{i:04} {v.path}" for i, v in enumerate(variables)]
        expected = {name: tuple(v.shape) for name, v in zip(names, variables, strict=True)}
        loaded = run.checkpoints.load(progress.say, expected) if run else None
        about = distributed.share(loaded[1] if loaded else {"update": 0})
        update = int(about["update"])
        if not 0 <= update <= self.updates:
            raise RunError(
                f"{self.path}: expected a checkpoint of at most {self.updates} updates, as the "
                f"recipe has, found one of {update}"
            )
        if update:
            values = [
                loaded[0][name] if loaded else backend.view(variable)
                for name, variable in zip(names, variables, strict=True)
            ]
            for variable, value in zip(variables, distributed.share_arrays(values), strict=True):
                variable.assign(value)
            self.seconds, self.scoring_seconds = about["seconds"], about["scoring_seconds"]
        if run:
            run.keep_metrics(update)
        return update


def _peaks() -> dict[str, int | None]:
    """The most memory so far, in bytes: resident, and on an accelerator its own."""
    own = backend.accelerator_memory()[1]
    return {"peak_memory": system.peak()} | ({"peak_accelerator_memory": own} if own else {})


def _all_finite(arrays: Iterable[NDArray[Any]]) -> bool:
    """Whether no array holds NaN or infinity; their sum does then, and takes no memory."""
    return all(math.isfinite(float(array.sum(dtype=np.float64))) for array in arrays)
