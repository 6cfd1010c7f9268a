"""The options that name data, and how all commands load it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmnist.cli.options import say
from fmnist.errors import DataError

if TYPE_CHECKING:
    from fmnist.data.sources import Progress
    from fmnist.data.splits import Data
    from fmnist.runs.run import Run

Folder = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Data: a file or folder of IDX, CSV, npz or Parquet files, folders of images by "
        "class, or a zip or tar of those [default: $FMNIST_DATA, else Fashion-MNIST].",
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        "--size",
        metavar="N",
        help="Bring every image to N × N pixels, in its own proportions [default: as they are].",
    ),
]
SkipUnreadable = Annotated[
    bool,
    typer.Option(
        "--skip-unreadable", help="Leave out image files that cannot be read, and count them."
    ),
]


@contextmanager
def progress_bar() -> Iterator["Progress | None"]:
    """A progress bar on stderr for downloads, or None if stderr is no terminal."""
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


def load(place: Path | None, size: int | None = None, skip_unreadable: bool = False) -> "Data":
    """The data named, or the data that `load_data` finds; shows a bar while it downloads."""
    from fmnist.data.load import load_data

    with progress_bar() as progress:
        return load_data(
            place, size=size, skip_unreadable=skip_unreadable, progress=progress, report=say
        )


def load_recorded(recorded: dict[str, Any], asked: Path | None) -> "Data":
    """The data that a run or an audit recorded, read as then, where it is or where it is asked."""
    return load(recorded_place(recorded, asked), **recorded.get("reading", {}))


def load_of(run: "Run", asked: Path | None) -> "Data":
    """The data of a run."""
    return load_recorded(run.env["data"], asked)


def recorded_place(recorded: dict[str, Any], asked: Path | None) -> Path | None:
    """Where the data is: as asked for, else as recorded, where that is needed."""
    folder = recorded.get("folder")  # a committed record names none
    if folder == "" and not asked and "FMNIST_DATA" not in os.environ:
        if recorded.get("name") == "fashion-mnist":
            return None
        raise DataError(
            "expected --data, since the run was trained on arrays in hand; save_idx of "
            "fmnist.data.save writes them as files, and fmnist.evaluate scores in Python"
        )
    if asked or not folder:
        return asked
    # Where it is gone, Fashion-MNIST is found anew, and other data where FMNIST_DATA says.
    known = recorded.get("name") == "fashion-mnist" or "FMNIST_DATA" in os.environ
    return None if known and not os.path.lexists(folder) else Path(folder)
