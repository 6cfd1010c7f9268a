"""`fmnist runs`: the table of runs, one run in full, and deleting runs."""

import csv
import math
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fmnist.cli.one_run import run_row, show_run, test_score
from fmnist.cli.options import (
    Csv,
    Json,
    OfData,
    OfRecipe,
    Parameters,
    RunFolder,
    RunFolders,
    RunsFolder,
    Sort,
    Wide,
    print_json,
    say,
)
from fmnist.cli.paths import Command, Group
from fmnist.cli.tables import short_score, table
from fmnist.errors import FmnistError, UsageError, printable
from fmnist.recipes.recipe import current_name
from fmnist.recipes.text import plain, short

SORTED_BY = ("created", "name", "val", "test", "parameters", "seconds")


def sort_rows(rows: list[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """Rows of `run_row`: newest first, or best first and runs without a score last, or lowest."""
    if by not in SORTED_BY:
        raise UsageError(f"--sort: expected one of {', '.join(SORTED_BY)}, received {by!r}")
    if by in ("val", "test"):
        return sorted(rows, key=lambda r: -r[by]["accuracy"] if r[by] else 0.0)
    rows = sorted(rows, key=lambda r: r["run"])
    if by == "created":
        return sorted(rows, key=lambda r: r["created"] or "", reverse=True)
    return rows if by == "name" else sorted(rows, key=lambda r: r[by])


def parse_range(text: str) -> tuple[float, float]:
    """`1000..20000`, `100k..` or `..1.5M` as two numbers; a missing end is 0 or infinity.

    Raises UsageError.
    """
    low, dots, high = text.replace(",", "").lower().partition("..")
    ends = [re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([km]?)", end) for end in (low, high)]
    if not dots or (low and not ends[0]) or (high and not ends[1]):
        raise UsageError(f"--parameters: expected MIN..MAX, such as ..100k, received {text!r}")
    least, most = (
        float(end[1]) * {"": 1, "k": 1e3, "m": 1e6}[end[2]] if end else None for end in ends
    )
    return least or 0.0, math.inf if most is None else most


def show_runs(rows: list[dict[str, Any]], wide: bool = False) -> None:
    """A table of runs for each data set, in the order of their first runs."""
    by_data: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_data.setdefault(row["data"] or "data without a name", []).append(row)
    for name, group in by_data.items():
        sizes = {split: _usual_size([r[split] for r in group]) for split in ("val", "test")}
        images = ", ".join(f"{split} n={n:,}" for split, n in sizes.items() if n)
        print(f"{printable(name)}{f' ({images})' if images else ''}:")
        table(
            ["run", "created", "parameters", "val %", "test %", "opened", "seconds", "recipe"],
            [
                [
                    r["run"],
                    (r["created"] or "–")[:10],
                    f"{r['parameters']:,}",
                    short_score(r["val"], sizes["val"]) if r["finished"] else r["state"],
                    short_score(r["test"], sizes["test"]),
                    f"{r['times_opened']}×",
                    f"{r['seconds']:,.0f}",
                    " ".join([r["recipe"], *(f"{k}={short(v)}" for k, v in r["changes"].items())]),
                ]
                for r in group
            ],
            folds=True,
            optional=["opened", "created", "seconds", "parameters"],
            wide=wide,
        )


PLAIN = ("run", "recipe", "changes", "data", "created", "state", "parameters", "seconds", "device")
SCORED = ("accuracy", "n", "loss", "expected_calibration_error")


def print_csv(rows: list[dict[str, Any]]) -> None:
    """Rows of `run_row` as comma-separated values under a line of names; no score is empty."""
    scored = [(split, figure) for split in ("val", "test") for figure in SCORED]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = [f"{split}_{figure}" for split, figure in scored]
    writer.writerow([*PLAIN, *names, "times_opened"])
    for row in rows:
        changes = " ".join(f"{key}={plain(value)}" for key, value in row["changes"].items())
        values = [(row | {"changes": changes})[key] for key in PLAIN]
        figures = [(row[split] or {}).get(figure, "") for split, figure in scored]
        writer.writerow([*values, *figures, row["times_opened"]])


def _usual_size(scores: list[dict[str, Any] | None]) -> int | None:
    """The number of images that most of these scores are of."""
    sizes = [score["n"] for score in scores if score]
    return max(sizes, key=sizes.count, default=None)


runs_app = typer.Typer(cls=Group, rich_markup_mode=None)


@runs_app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    folder: RunsFolder = Path("runs"),
    sort: Sort = "created",
    recipe: OfRecipe = None,
    data: OfData = None,
    parameters: Parameters = None,
    wide: Wide = False,
    as_csv: Csv = False,
    as_json: Json = False,
) -> None:
    """List runs, show one, or delete some.

    Without a command it prints a table of the runs in a folder for each data set.
    """
    if context.invoked_subcommand is not None:
        for option, given in (("--json", as_json), ("--csv", as_csv)):
            if given:
                raise UsageError(
                    f"{option}: expected after {context.invoked_subcommand}, received before it"
                )
        return
    _list(folder, sort, recipe, data, parameters, wide, as_csv, as_json)


@runs_app.command("list", cls=Command)
def list_runs(
    folder: RunsFolder = Path("runs"),
    sort: Sort = "created",
    recipe: OfRecipe = None,
    data: OfData = None,
    parameters: Parameters = None,
    wide: Wide = False,
    as_csv: Csv = False,
    as_json: Json = False,
) -> None:
    """List runs, as without a command."""
    _list(folder, sort, recipe, data, parameters, wide, as_csv, as_json)


def _list(
    folder: Path,
    sort: str,
    recipe: str | None,
    data: str | None,
    parameters: str | None,
    wide: bool,
    as_csv: bool,
    as_json: bool,
) -> None:
    from fmnist.runs.run import Run, run_folders

    if as_csv and as_json:
        raise UsageError("--csv, --json: leave out one of them")
    low, high = parse_range(parameters or "..")
    rows: list[dict[str, Any]] = []
    for path in run_folders(folder):
        try:
            rows.append(run_row(Run(path)))
        except FmnistError as error:  # one damaged run hides no other
            say(f"note: a run that cannot be read is not listed: {error}")
    total = len(rows)
    named = current_name(recipe)
    rows = [r for r in rows if low <= r["parameters"] <= high and named in (None, r["recipe"])]
    rows = [r for r in rows if data in (None, r["data"])]
    rows = sort_rows(rows, sort)
    if as_json:
        print_json(rows)
    elif as_csv:
        print_csv(rows)
    elif rows:
        show_runs(rows, wide)
    elif total:
        print(f"none of the {total} runs in {folder} matches")
    else:
        print(f"no runs in {folder} yet; `fmnist train` makes one")


@runs_app.command(cls=Command)
def show(run: RunFolder, as_json: Json = False) -> None:
    """Show one run in full.

    It prints the run's recipe, environment, learning curve and scores.
    """
    from fmnist.runs.run import find_run

    opened = find_run(run)
    if not as_json:
        show_run(opened)
        return
    print_json(
        {
            "run": opened.name,
            "recipe": opened.recipe_json,
            "env": opened.env,
            "metrics": opened.metrics(),
            "scores": {**opened.scores} | ({"test": test} if (test := test_score(opened)) else {}),
            "times_opened": opened.times_opened(),
            "scorings_of_test": opened.scorings(),
        }
    )


@runs_app.command(cls=Command)
def delete(
    runs: RunFolders,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete without asking for confirmation.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Delete runs that were scored on test too; the ledger stays."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete runs, after asking.

    It refuses to delete a run that a record names, and without --force one that the ledger names.
    """
    from fmnist.runs import deletion
    from fmnist.runs.run import find_run

    opened = list({run.path.resolve(): run for run in map(find_run, runs)}.values())
    for run in opened:  # before any is deleted
        deletion.require_deletable(run, force)
    names = ", ".join(str(run.path) for run in opened)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError(
                f"runs delete: expected --yes, as nobody can be asked here about {names}"
            )
        if not typer.confirm(f"delete {names}?", err=True):
            raise UsageError("runs delete: the answer was no; nothing was deleted")
    for run in opened:
        deletion.delete(run, force)
        if not as_json:
            print(f"deleted {printable(str(run.path))}")
    if as_json:
        print_json({"deleted": [str(run.path) for run in opened]})
