"""Measures the memory of a few updates, in a separate process.

`python -m fmnist.training.memory_probe` reads the task as a JSON object from stdin.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from fmnist import system
from fmnist.data.splits import Split
from fmnist.recipes.recipe import Recipe
from fmnist.runs.run import Run
from fmnist.training import checkpointing
from fmnist.training.stopwatch import Stopwatch
from fmnist.training.task import Task
from fmnist.training.trainer import Trainer


def main() -> None:
    """Train on random images, by a JSON object on stdin, and print the peak memory in bytes."""
    asked = json.load(sys.stdin)
    env, size = asked["env"], asked["micro_batch"]
    count = 2 * size + 1
    images = np.random.RandomState(0).randint(0, 256, (count, *env["shape"]), dtype=np.uint8)
    split = Split(images, np.zeros(count, np.int32))
    recipe = Recipe.from_json(asked["recipe"])
    trainer = Trainer(Task(recipe, env, split), size)
    for _ in range(2):
        float(trainer.updater(np.arange(count))["loss"])
    with tempfile.TemporaryDirectory() as place:
        run = Run.create(Path(place) / "run", recipe, env | {"micro_batch": size})
        checkpointing.save(run, trainer, 2, Stopwatch())
    print(system.peak())


if __name__ == "__main__":
    main()
