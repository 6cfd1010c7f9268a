"""What became of a sweep's trials, and the command that trains the best of them on all images."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import RECIPES, changes_of
from fmnist.recipes.text import plain, settings
from fmnist.runs.commands import command

Rows = list[dict[str, Any]]
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def row_of(trial: FrozenTrial, names: Iterable[str], run: Path) -> dict[str, Any]:
    """A trial as `Sweep.rows` has it: `names` are of the values searched, `run` is its folder."""
    steps = trial.intermediate_values
    last = steps[max(steps)] if steps else None
    return {
        "trial": trial.number,
        "state": STATES[trial.state],
        "val": trial.value if trial.state == TrialState.COMPLETE else last,
        "epochs": max(steps, default=0),
        "seconds": trial.user_attrs.get("seconds"),
        "values": {name: trial.params[name] for name in names if name in trial.params},
        "run": str(run),
        "reason": trial.user_attrs.get("reason"),
    }


def ranked(rows: Rows) -> Rows:
    """Running trials first, then complete ones, the best first, then pruned and failed ones."""
    order = ["running", "waiting", "complete", "pruned", "failed"]
    return sorted(rows, key=lambda row: (order.index(row["state"]), -(row["val"] or 0)))


def train_command(recipe: Recipe, row: Mapping[str, Any], data: str, backend: str) -> str:
    """The command that trains a row's recipe on all images and scores it on test.

    `recipe` is the sweep's, `data` its folder or empty, `backend` its engine.
    """
    recipe = recipe.changed(**{name: plain(value) for name, value in row["values"].items()})
    words: list[str | Path] = [
        recipe.name if recipe.name in RECIPES else Path(row["run"]) / "recipe.json"
    ]
    words += settings(changes_of(recipe))
    words += ["--data", data] if data else []
    line = command("train", *words, "--fit-on", "all", "--test")
    return f"KERAS_BACKEND=jax {line}" if backend == "jax" else line


def refusal(folder: Path) -> str:
    """Why no sweep is made in a folder that exists."""
    return (
        f"{folder}: exists already and a sweep never writes into another; choose another name, or "
        f"go on with it by {command('sweep', '--resume', folder)}"
    )
