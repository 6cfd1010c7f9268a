"""`fmnist sweep`, and its progress on the terminal."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmnist import files
from fmnist.cli.loading import Folder
from fmnist.cli.options import (
    Changes,
    Json,
    Logs,
    Quiet,
    Settings,
    check_logs,
    in_one,
    print_json,
    read_recipe,
    refuse_beside_resume,
    say,
)
from fmnist.cli.tables import drawn_table, print_table, terminal_width
from fmnist.errors import FmnistError, UsageError
from fmnist.recipes.text import short
from fmnist.system import print_message

if TYPE_CHECKING:
    from rich.table import Table


def trials_table(rows: list[dict[str, Any]], width: int | None = None) -> "Table":
    """A sweep's trials: state, val accuracy, epochs, seconds and values, for a terminal's width."""
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))
    failed = any(r["reason"] for r in rows)
    return drawn_table(
        ["trial", "state", "val %", "epochs", "seconds", *names, *["failed because"] * failed],
        [
            [
                str(r["trial"]),
                r["state"],
                "–" if r["val"] is None else f"{100 * r['val']:.2f}",
                str(r["epochs"]),
                "–" if r["seconds"] is None else f"{r['seconds']:,.0f}",
                *(short(r["values"][name]) if name in r["values"] else "–" for name in names),
                *[r["reason"] or ""] * failed,
            ]
            for r in rows
        ],
        folds=failed,
        optional=["seconds", "epochs", *reversed(names)],
        width=width,
    )


def show_sweep(rows: list[dict[str, Any]], best: dict[str, Any] | None, command: str) -> None:
    """All trials of a sweep, the best of them, and the command that trains it on all images."""
    print_table(trials_table(rows))
    if best is None:
        print("no trial was finished")
        return
    complete = sum(row["state"] == "complete" for row in rows)
    print(f"\nbest: trial {best['trial']}, val {best['val']:.2%}, {best['run']}")
    if complete > 1:
        print(
            f"(it was chosen as the best of {complete} on val, so this val accuracy is a little "
            "too high)"
        )
    print(f"train it on all images and score it on test: {command}")


SHOWN = 20  # trials in the live table, which has to fit on a terminal
Rows = list[dict[str, Any]]


class SweepProgress:
    """Shows a sweep on stderr: a live table on a terminal, otherwise a line for each ended trial.

    Call `show` with the rows whenever they change, inside a `with`.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.live = sys.stderr.isatty() and not quiet
        self.quiet, self.said = quiet, set[int]()
        self._table: Any = None

    def __enter__(self) -> "SweepProgress":
        if self.live:
            from rich.console import Console
            from rich.live import Live

            self._table = Live(console=Console(file=sys.stderr), auto_refresh=False, transient=True)
            self._table.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._table:
            self._table.stop()

    def show(self, rows: Rows) -> None:
        """Show these rows."""
        from fmnist.search.outcome import ranked

        if self._table:
            self._table.update(
                trials_table(ranked(rows)[:SHOWN], terminal_width(sys.stderr)), refresh=True
            )
        elif not self.quiet:
            ended = {row["trial"]: row for row in rows if row["state"] != "running"}
            for number in sorted(ended.keys() - self.said):
                self.said.add(number)
                print_message(_line(ended[number]))


def _line(row: Mapping[str, Any]) -> str:
    values = " ".join(f"{name}={short(value)}" for name, value in row["values"].items())
    val = f"  val {row['val']:.2%}" if row["val"] is not None else ""
    reason = f"  ({row['reason']})" if row["reason"] else ""
    return (
        f"trial {row['trial']}: {row['state']} after epoch {row['epochs']}{val}  {values}{reason}"
    )


def sweep(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="Recipe to start from, by name or file [default: quick]."
        ),
    ] = None,
    changes: Changes = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="NAME=VALUES",
            help="Field to search, over A/B/C, LOW..HIGH or log:LOW..HIGH; repeatable.",
        ),
    ] = None,
    settings: Settings = None,
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=0, help="Number of trials in all.")
    ] = 20,
    minutes: Annotated[
        float,
        typer.Option(
            "--minutes",
            metavar="M",
            min=0,
            show_default="no limit",
            help="Start no new trial after this many minutes.",
        ),
    ] = float("inf"),
    data: Folder = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder to create [default: one in sweeps/]."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="SWEEP", help="Resume this sweep.")
    ] = None,
    storage: Annotated[
        str,
        typer.Option(
            "--storage",
            metavar="URL",
            help="Optuna storage that keeps the trials [default: a file in the folder].",
        ),
    ] = "",
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="N", help="Seed of the sampler that proposes the trials."),
    ] = 0,
    no_prune: Annotated[
        bool, typer.Option("--no-prune", help="Train every trial to its end, even if it is behind.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Train the trials on a Ray cluster, each to its end: HOST:PORT, auto or local.",
        ),
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option(
            "--cpus-per-trial",
            metavar="N",
            min=1,
            help="With --ray: processor cores for each trial [default: 1].",
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-trial",
            metavar="X",
            min=0,
            max=1,
            help="With --ray: GPU for each trial, 1 or a fraction [default: 0].",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write a page about the trials into this file."
        ),
    ] = None,
    log: Logs = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search for better values of recipe fields.

    Each trial is a run in a folder of its own. The accuracy on val decides which is best.
    """
    recipe, settings = in_one(recipe, changes, settings)
    refuse_beside_resume(
        resume, "sweep", recipe, over, settings, data, out, storage, seed, no_prune, log
    )
    logs = check_logs(log)
    if ray is None and (cpus is not None or gpus is not None):
        raise UsageError("--cpus-per-trial, --gpus-per-trial: only go with --ray ADDRESS")
    chosen = read_recipe(recipe, settings)

    from fmnist.data.find import named_place
    from fmnist.search import cluster, page
    from fmnist.search.outcome import ranked
    from fmnist.search.sweep import Sweep

    if html:
        files.require_own(html, page.MARK)

    if ray is not None:
        cluster.connect(ray, cpus or 1, gpus or 0)
    if resume:
        opened = Sweep(resume)
    else:
        folder = named_place(data)
        opened = Sweep.create(
            out,
            chosen,
            over or [],
            data=folder,
            storage=storage,
            seed=seed,
            prune=not (no_prune or ray),
            log=logs,
        )
    if not quiet:
        say(f"sweep of {opened.recipe.name} over {', '.join(opened.space)} in {opened.path}")
    with SweepProgress(quiet) as progress:
        if ray is None:
            opened.search(trials, minutes, progress.show)
        else:
            cluster.search(opened, trials, minutes, progress.show, cpus=cpus or 1, gpus=gpus or 0)
    rows, best = ranked(opened.rows()), opened.best()
    if opened.is_exhausted and len(rows) < trials and not quiet:
        say(f"all combinations of the values have been tried, in {len(rows)} trials")
    command = opened.command_for(best) if best else ""
    if html:
        page.sweep_page(opened, html)
    if as_json:
        about = {"sweep": str(opened.path), "best": best, "command": command, "trials": rows}
        print_json(about | ({"page": str(html)} if html else {}))
    else:
        show_sweep(rows, best, command)
        if html:
            print(f"page: {html}")
    if best is None and rows:
        raise FmnistError(f"{opened.path}: no trial was finished")
