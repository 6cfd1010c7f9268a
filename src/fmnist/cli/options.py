"""The options that commands share, and what all of them do with data, runs and output."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmnist.errors import UsageError
from fmnist.system import print_message

if TYPE_CHECKING:
    from fmnist.recipes.recipe import Recipe
    from fmnist.runs.run import Run

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_size(text: str, what: str = "memory") -> int:
    """Bytes in `4GB` or `512MiB`; a number alone is none. Raises UsageError."""
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([kmg]?i?)b?\s*", text.lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else 0
    if size < 1 or text.strip()[-1:].isdigit():
        raise UsageError(f"{what}: expected a size such as 4GB or 512MiB, received {text!r}")
    return size


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a recipe, or a recipe.json file.")
]
RecipeOrQuick = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE", help="Name of a recipe, or a recipe.json file [default: quick]."
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, or name of a run.")]
RunFolders = Annotated[
    list[Path], typer.Argument(metavar="RUN", help="Run folders, or names of runs.")
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME=VALUE", help="Changes of the recipe, as --set takes them."),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="The same as --set epochs=N.")
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="The same as --set seed=N.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a recipe field or a model option; repeatable. The command `fmnist recipes "
        "RECIPE` lists the names.",
    ),
]
NewRun = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", help="Run folder to create [default: one in runs/]."),
]
OldRun = Annotated[
    Path | None, typer.Option("--resume", metavar="RUN", help="Resume this interrupted run.")
]
FitOn = Annotated[
    str | None,
    typer.Option(
        "--fit-on",
        metavar="train|all",
        help="Train on the training split only, or on all images, validation split included.",
    ),
]
Teacher = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        metavar="RUN",
        help="Distil this finished run: learn its outputs as well as the labels. Repeat it to "
        "learn the mean of several.",
    ),
]
Test = Annotated[
    bool,
    typer.Option(
        "--test", help="Score the test split at the end. The ledger records each scoring."
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Limit memory to this size, such as 4GB: GPU memory on a GPU, else resident memory.",
    ),
]
MicroBatch = Annotated[
    int | None,
    typer.Option(
        "--micro-batch",
        metavar="N",
        help="Images on the device at once [default: as many as fit in memory].",
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        "--checkpoint-seconds",
        metavar="S",
        help="Seconds between two checkpoints [default: 300, or 100 times as long as writing "
        "one takes].",
    ),
]
Updates = Annotated[
    int | None,
    typer.Option(
        "--checkpoint-updates",
        metavar="N",
        min=1,
        help="Write a checkpoint after every N updates as well.",
    ),
]
Logs = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar="tensorboard|mlflow",
        help="Show the training there too: TensorBoard's event files in the run folder, or the "
        "MLflow server that MLFLOW_TRACKING_URI names; repeatable.",
    ),
]
Distributed = Annotated[
    bool,
    typer.Option(
        "--distributed",
        help="Divide each batch among all devices of several processes (JAX only). SLURM, mpirun "
        "or the next three options say which processes.",
    ),
]
Coordinator = Annotated[
    str | None,
    typer.Option("--coordinator", metavar="HOST:PORT", help="Address at which process 0 listens."),
]
NumProcesses = Annotated[
    int | None,
    typer.Option("--num-processes", metavar="N", min=1, help="Number of processes in all."),
]
ProcessId = Annotated[
    int | None,
    typer.Option(
        "--process-id", metavar="I", min=0, help="Number of this process; the first is 0."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Split = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="val|test",
        help="Split to score. The ledger records each scoring of test.",
    ),
]
ScoredSplit = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="val|test",
        help="Split to compare the runs on; each must have been scored on it.",
    ),
]
Subjects = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN",
        help="Two or more run folders, or names of runs. RUN,RUN,RUN is a group, such as several "
        "seeds of a recipe; NAME=RUN,RUN names it.",
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="An .onnx file, a folder that holds one, or a run's folder or name [default: the "
        "bundled model].",
    ),
]
Picture = Annotated[
    Path | None,
    typer.Option("--show", metavar="FILE", help="Save a picture of sample images in this file."),
]
Sort = Annotated[
    str,
    typer.Option(
        "--sort",
        metavar="COLUMN",
        help="Sort by created, newest first, by val or test accuracy, highest first, or by name, "
        "parameters or seconds, lowest first.",
    ),
]
OfRecipe = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME", help="Show only runs of this recipe.")
]
OfData = Annotated[
    str | None, typer.Option("--data", metavar="NAME", help="Show only runs on this data set.")
]
Wide = Annotated[
    bool, typer.Option("--wide", help="Show every column, in however narrow a terminal.")
]
Csv = Annotated[bool, typer.Option("--csv", help="Print comma-separated values instead of text.")]
Parameters = Annotated[
    str | None,
    typer.Option(
        "--parameters",
        metavar="MIN..MAX",
        help="Show only networks with this many parameters. MIN or MAX may be left out.",
    ),
]
RunsFolder = Annotated[
    Path, typer.Option("--in", metavar="DIR", help="Folder that holds the runs.")
]


def print_json(value: Any) -> None:
    """A value as JSON on one line of stdout."""
    print(json.dumps(value, ensure_ascii=False))


def say(text: str) -> None:
    """Print a message to stderr, so that it stays out of the command's output."""
    print_message(text)


def check_logs(names: Iterable[str] | None) -> list[str]:
    """The trackers that `--log` names. Raises UsageError for one that is not installed."""
    from fmnist.training.trackers import require

    chosen = list(names or [])
    for name in chosen:
        require(name)
    return chosen


def in_one(
    recipe: str | None, changes: list[str] | None, settings: list[str] | None
) -> tuple[str | None, list[str]]:
    """The recipe's name and all its changes; `epochs=3` in its place is a change of `quick`."""
    if recipe and "=" in recipe and not Path(recipe).exists():
        return None, [recipe, *(changes or []), *(settings or [])]
    return recipe, [*(changes or []), *(settings or [])]


def read_recipe(name: str | None, settings: list[str] | None, **changes: Any) -> "Recipe":
    """The recipe named, `quick` if none is, with the changes that `--set` and others ask for."""
    from fmnist.recipes.shipped import parse_settings, recipe

    return recipe("quick" if name is None else name, **parse_settings(settings or []) | changes)


def open_finished(paths: Iterable[Path]) -> list["Run"]:
    """Runs by folder or name. Raises RunError if one has no weights, before Keras is loaded."""
    from fmnist.runs.run import find_run

    runs = [find_run(path) for path in paths]
    for run in runs:
        run.require_weights()
    return runs


def refuse_beside_resume(resume: Path | None, recorded: str, *others: Any) -> None:
    """Raise UsageError if `--resume` stands beside options that the old run has recorded."""
    if resume and any(others):
        raise UsageError(
            f"--resume: continues with what the {recorded} recorded; leave out the other options"
        )


def check_split(split: str) -> None:
    """Raise UsageError for a split that has no score."""
    if split not in ("val", "test"):
        raise UsageError(f"--split: expected val or test, received {split!r}")
