"""A model in training: what does the updates, and what knows their state."""

import gc
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.engine import backend, distributed, keras
from fmnist.errors import NonFiniteLossError, RunError
from fmnist.scoring.evaluate import compile_forward
from fmnist.scoring.views import BATCH, predict_logits
from fmnist.training.task import Task


def epoch_order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of n images in an epoch, by seed and epoch alone (NumPy's frozen legacy stream)."""
    return np.random.RandomState([seed, epoch]).permutation(n)


class Trainer:
    """A task's model in training with one size of micro-batch.

    Args:
        task: what is to be trained.
        micro_batch: images on the device at once.
        model: from `task.build`; None builds one.

    `updater` does the updates of `model`, and `forward` gives its logits of raw images.
    """

    def __init__(self, task: Task, micro_batch: int, model: keras.Model | None = None) -> None:
        self.task, self.micro_batch = task, micro_batch
        self.model = task.build() if model is None else model
        self.updater = task.compile(self.model, micro_batch)
        self.forward = compile_forward(self.updater.model, task.mean, task.deviation)
        self._epoch, self._order = 0, epoch_order(task.recipe.seed, 0, len(task.images))

    def restart(self, micro_batch: int) -> None:
        """Start again from the initial weights with another micro-batch.

        The device memory of the old size is freed before the new state is made.
        """
        del self.model, self.updater, self.forward
        gc.collect()
        Trainer.__init__(self, self.task, micro_batch)

    def step(self, update: int) -> dict[str, Any]:
        """Update number `update`, counted from 0; the epoch's running means of loss and accuracy.

        The means may still be on their way when this returns: see `Updater`.
        """
        task = self.task
        epoch, place = divmod(update, task.updates_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = epoch_order(task.recipe.seed, epoch, len(task.images))
        if place == 0:
            self.updater.reset_metrics()
        size = task.recipe.batch_size
        return self.updater(self._order[place * size :][:size])

    def logits(self, images: NDArray[Any], views: str) -> NDArray[np.float32]:
        """Logits (n, classes), in batches that need no more memory than training."""
        self.updater.variables()
        return predict_logits(self.forward, images, views, min(BATCH, self.micro_batch))

    def weights(self) -> dict[str, NDArray[Any]]:
        """The model's weights by path. Raises RunError where two share a path."""
        self.updater.variables()
        weights = {v.path: backend.view(v) for v in self.model.weights}
        if len(weights) != len(self.model.weights):
            raise RunError(
                "expected weights of different names, found two of the model with the same name"
            )
        return weights

    def state(self) -> dict[str, NDArray[Any]]:
        """All that an update reads and changes: weights, optimiser, the epoch's running sums."""
        return {name: backend.view(v) for name, v in self._named_variables().items()}

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of `state`'s arrays."""
        return {name: tuple(v.shape) for name, v in self._named_variables().items()}

    def load_state(self, state: Mapping[str, NDArray[Any]] | None) -> None:
        """Load what `state` returned. Process 0 sends it to the other processes.

        The others call this with None.
        """
        variables = self._named_variables()
        values = [
            backend.view(variable) if state is None else state[name]
            for name, variable in variables.items()
        ]
        shared = distributed.share_arrays(values)
        for variable, value in zip(variables.values(), shared, strict=True):
            variable.assign(value)

    def _named_variables(self) -> dict[str, keras.Variable]:
        return {f"{i:04} {v.path}": v for i, v in enumerate(self.updater.variables())}


def require_finite(arrays: Iterable[NDArray[Any]], run: Path, update: int) -> None:
    """Raise NonFiniteLossError where an array holds NaN or infinity after this many updates.

    Their sum is none then either, and takes no memory.
    """
    with np.errstate(all="ignore"):
        finite = all(math.isfinite(float(array.sum(dtype=np.float64))) for array in arrays)
    if not finite:
        raise diverged(run, update, math.nan)


def diverged(run: Path, update: int, loss: float) -> NonFiniteLossError:
    """The error for a loss that is NaN or infinite."""
    kept = any((run / "checkpoint").glob("*.json"))
    return NonFiniteLossError(
        f"update {update}: expected a finite loss, received {loss}; start a new run with a lower "
        f"learning_rate ({run} {'keeps its last good checkpoint' if kept else 'is unfinished'})"
    )
