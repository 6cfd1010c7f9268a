"""The options that commands share, and what all of them do with data, runs and output."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmnist.errors import DataError, UsageError

if TYPE_CHECKING:
    from fmnist.data.sources import Progress
    from fmnist.data.splits import Data
    from fmnist.runs.run import Run

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_size(text: str, what: str = "memory") -> int:
    """`4GB`, `512MiB` or a number of bytes, as bytes. Raises UsageError."""
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([kmg]?i?)b?\s*", text.lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else 0
    if size < 1:
        raise UsageError(f"{what}: expected a size such as 4GB or 512MiB, received {text!r}")
    return size


@contextmanager
def progress_bar() -> Iterator["Progress | None"]:
    """A bar on standard error to hand to `obtain_set`, or None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:  # so that nothing shows when nothing is fetched
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield progress


PICTURES = (".png", ".svg", ".pdf", ".jpg")


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A name or a recipe.json.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or its name.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a recipe field or model option; repeatable. fmnist recipes NAME lists them.",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="IDX files, or images by class [default: FMNIST_DATA, else Fashion-MNIST].",
    ),
]
NewRun = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", help="The folder to make [default: one under runs/]."),
]
OldRun = Annotated[
    Path | None, typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run.")
]
FitOn = Annotated[
    str | None,
    typer.Option("--fit-on", metavar="train|all", help="all: on the validation images too."),
]
Teacher = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        metavar="RUN",
        help="Learn a finished run's outputs beside the labels; repeated: their mean.",
    ),
]
Test = Annotated[
    bool, typer.Option("--test", help="Score the test split at the end; the ledger notes it.")
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory", metavar="SIZE", help="Memory to stay within, as 4GB: a GPU's, else resident."
    ),
]
MicroBatch = Annotated[
    int | None,
    typer.Option(
        "--micro-batch",
        metavar="N",
        help="Images on the device at once [default: as memory permits].",
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        "--checkpoint-seconds",
        metavar="S",
        help="How often to keep the whole state [default: 300, or 100 times what it takes].",
    ),
]
Updates = Annotated[
    int | None,
    typer.Option("--checkpoint-updates", metavar="N", min=1, help="And after every N updates."),
]
Distributed = Annotated[
    bool,
    typer.Option(
        "--distributed",
        help="Divide each batch among all devices of the processes that SLURM, mpirun or the next "
        "three options name (on JAX).",
    ),
]
Coordinator = Annotated[
    str | None, typer.Option("--coordinator", metavar="HOST:PORT", help="Where process 0 listens.")
]
NumProcesses = Annotated[
    int | None, typer.Option("--num-processes", metavar="N", min=1, help="How many there are.")
]
ProcessId = Annotated[
    int | None, typer.Option("--process-id", metavar="I", min=0, help="Which this is, from 0.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Split = Annotated[
    str, typer.Option("--split", metavar="val|test", help="test is noted in the ledger.")
]
Subjects = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN RUN...",
        help="Folders or names; RUN,RUN,RUN is a group, as of seeds, and NAME=RUN,RUN names it.",
    ),
]
Picture = Annotated[
    Path | None, typer.Option("--show", metavar="FILE", help="Write a picture of samples.")
]
Sort = Annotated[
    str,
    typer.Option(
        "--sort",
        metavar="name|val|test|parameters|seconds",
        help="Accuracies the highest first, the others the lowest.",
    ),
]
OfRecipe = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME", help="Only runs of this recipe.")
]
Parameters = Annotated[
    str | None,
    typer.Option(
        "--parameters",
        metavar="MIN..MAX",
        help="Only networks of so many parameters; either end may be left out.",
    ),
]
RunsFolder = Annotated[Path, typer.Option("--in", metavar="DIR", help="The folder of the runs.")]


def print_json(value: Any) -> None:
    """A value as JSON on one line of stdout."""
    print(json.dumps(value, ensure_ascii=False))


def say(text: str) -> None:
    """Something about the command's progress, kept out of its output."""
    print(text, file=sys.stderr, flush=True)


def load(folder: Path | None) -> "Data":
    """The data in a folder, else as `load_data` finds it, with a bar while it is fetched."""
    from fmnist.data.load import load_data

    with progress_bar() as progress:
        return load_data(folder, progress=progress, report=say)


def folder_named(folder: Path | None) -> str:
    """The data folder asked for by option or FMNIST_DATA, from the root; empty for none."""
    asked = folder or os.environ.get("FMNIST_DATA")
    if asked and not Path(asked).is_dir():
        raise DataError(f"{asked}: expected a folder of images, found none")
    return str(Path(asked).resolve()) if asked else ""


def check_split(split: str) -> None:
    """Raise UsageError for a split that has no score."""
    if split not in ("val", "test"):
        raise UsageError(f"--split: expected val or test, received {split!r}")


def folder_of(run: "Run", asked: Path | None) -> Path | None:
    """The data folder for a run: the one asked for, else the one that it was trained on."""
    return recorded_folder(run.env["data"], asked)


def recorded_folder(recorded: dict[str, Any], asked: Path | None) -> Path | None:
    """The data folder asked for, else the recorded one where it is needed."""
    folder = recorded.get("folder")  # a committed record names none
    if asked or not folder:
        return asked
    known = recorded.get("name") == "fashion-mnist"  # is found anew if the folder is gone
    return None if known and not Path(folder).is_dir() else Path(folder)
