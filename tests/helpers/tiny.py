"""Recipes that train in a second, and what is looked at in their runs."""

import hashlib
import os

from fmnist.recipes.shipped import recipe
from fmnist.training.progress import Progress

QUIET = Progress("none")
EVERYTHING_ON = {
    "model.filters": "4,8",
    "model.pool_after": "1,2",
    "crop": 2,
    "cutout": 6,
    "epochs": 3,
    "batch_size": 50,
    "learning_rate": 0.05,
}


def small(**changes):
    """A network with batch statistics and everything random switched on."""
    return recipe("quick", **(EVERYTHING_ON | changes))


def plain(**changes):
    """A network without batch statistics, with dropout."""
    changes = {"model.filters": "4,6", "model.dense_units": 8, "model.dropout": 0.3} | changes
    return recipe("reference", **({"epochs": 2, "batch_size": 64, "learning_rate": 0.01} | changes))


def weights_hash(run):
    """SHA-256 over all arrays of the resulting weights."""
    arrays = run.load_weights()
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())
    return digest.hexdigest()


def history(run):
    """What `metrics.jsonl` says, times and memory aside."""
    aside = ("seconds", "scoring_seconds", "images_per_second", "peak_memory", "finished")
    return [{k: v for k, v in line.items() if k not in aside} for line in run.metrics()]


class StopAt(Progress):
    """Asks for a stop after an update, as a signal would, through the real handler."""

    def __init__(self, update, signal_number):
        super().__init__("none")
        self.at, self.number = update, signal_number

    def update(self, update, loss, accuracy, seconds):
        if update == self.at:
            os.kill(os.getpid(), self.number)
