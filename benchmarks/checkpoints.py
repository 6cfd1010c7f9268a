"""What a checkpoint costs: size, seconds, and the share of training at the default interval.

    python benchmarks/checkpoints.py [quick standard reference] [--repeats 5]

The whole state of a model that has done one update: gathered, checked for numbers that are none,
written, flushed to the disk, hashed. Of a run, as `fmnist train` writes it; figures are medians.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from steps import Subject

from fmnist.recipes.shipped import recipe
from fmnist.runs.run import Run
from fmnist.training.checkpointing import default_interval, save
from fmnist.training.stopwatch import Stopwatch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=["quick", "standard", "reference"])
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    print(f"{'recipe':<10}{'MB':>8}{'seconds':>9}{'every s':>9}{'of training':>13}")
    for name in asked.recipes:
        trainer = Subject(recipe(name)).trainer
        float(trainer.step(0)["loss"])
        times = []
        with tempfile.TemporaryDirectory(dir=".") as place:  # /tmp may be memory
            run = Run.create(Path(place) / "run", trainer.task.recipe, trainer.task.env)
            for update in range(1, asked.repeats + 1):
                begin = time.perf_counter()
                save(run, trainer, update, Stopwatch())
                times.append(time.perf_counter() - begin)
            newest = max((run.path / "checkpoint").glob("*.safetensors"))
            size = newest.stat().st_size
        seconds = statistics.median(times)
        interval = default_interval(seconds)
        print(
            f"{name:<10}{size / 1e6:>8.1f}{seconds:>9.2f}{interval:>9.0f}"
            f"{seconds / (interval + seconds):>13.2%}"
        )


if __name__ == "__main__":
    main()
