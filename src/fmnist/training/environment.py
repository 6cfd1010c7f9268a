"""The content of a new run's env.json: what its result depends on besides the recipe."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from fmnist import system
from fmnist.data.splits import Data, Split, mean_and_deviation
from fmnist.engine import backend, distributed, precision
from fmnist.recipes.recipe import Recipe
from fmnist.runs.run import Run, now
from fmnist.training import teachers
from fmnist.version import __version__


def here() -> dict[str, Any]:
    """The part that every run records: time, program, command, engine and machine."""
    return {
        "created": now(),
        "fmnist": __version__,
        **system.commit(),
        "command": sys.argv,
        "backend": backend.name(),
        "versions": backend.versions(),
        "device": backend.device(),
        "threads": backend.threads(),
    }


def of_training(
    recipe: Recipe, data: Data, split: Split, taught_by: Iterable[Run]
) -> dict[str, Any]:
    """The record of a training on a split of the data, without parameters and micro-batch.

    Raises as `teachers.describe` does.
    """
    mean, deviation = mean_and_deviation(split.images)
    return here() | {
        "precision": precision.resolve_precision(recipe.precision),
        "data": data.record | {"n": len(split)},
        "processes": distributed.processes(),
        "devices": distributed.devices(),
        "shape": list(data.shape),
        "classes": list(data.classes),
        "mean": mean,
        "deviation": deviation,
        "teachers": teachers.describe(taught_by, recipe, data),
    }


def of_ensemble(members: Sequence[Run], hashes: Sequence[str], parameters: int) -> dict[str, Any]:
    """The record of an ensemble: its members' data, and the hash of each one's weights."""
    photos = {each["sha256"]: each for run in members for each in run.env.get("photos", [])}
    changed = {
        "teachers": [],
        "photos": list(photos.values()),
        "parameters": parameters,
        "micro_batch": min(run.env["micro_batch"] for run in members),
        "members": [
            {"run": str(run.path.resolve()), "weights": weights_hash}
            for run, weights_hash in zip(members, hashes, strict=True)
        ],
    }
    return dict(members[0].env) | here() | changed
