"""The command that reproduces a run."""

import shlex
from pathlib import Path

from fmnist.data.fashion_mnist import FASHION_MNIST
from fmnist.recipes.networks.ensemble import Ensemble
from fmnist.recipes.shipped import RECIPES, changes_of
from fmnist.recipes.text import settings
from fmnist.runs.commands import command, typed
from fmnist.runs.run import Run


def training_command(run: Run, portable: bool = False) -> str:
    """The shell command that trains a run's recipe again, or makes its ensemble again.

    A `portable` one names data and other runs by their own names, without this machine's folders.
    """

    def at(path: str | Path) -> Path:
        return Path(Path(path).name if portable else path)

    def typed_as(*words: str | Path) -> str:
        return shlex.join(["fmnist", *map(typed, words)]) if portable else command(*words)

    recipe, env = run.recipe, run.env
    if isinstance(recipe.options, Ensemble):
        equal = recipe.fit_on == "train" and len(set(recipe.options.weights)) == 1
        members = [at(member["run"]) for member in env.get("members", [])]
        return typed_as("ensemble", *members, *["--equal"] * equal)
    named = recipe.name if recipe.name in RECIPES else at(run.path) / "recipe.json"
    words: list[str | Path] = ["train", named]
    words += settings(changes_of(recipe))
    folder = env["data"].get("folder")
    if folder and env["data"]["name"] != FASHION_MNIST:
        words += ["--data", str(at(folder))]
    reading = env["data"].get("reading", {})
    words += ["--size", str(reading["size"])] if "size" in reading else []
    words += ["--skip-unreadable"] * reading.get("skip_unreadable", False)
    for teacher in env.get("teachers", []):
        words += ["--teacher", str(at(teacher["run"]))]
    for photos in env.get("photos", []):
        words += ["--photos", str(at(photos["folder"]))]
    line = typed_as(*words)
    return f"KERAS_BACKEND=jax {line}" if env["backend"] == "jax" else line
