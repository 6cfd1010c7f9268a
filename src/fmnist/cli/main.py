"""The command line: its table of contents, and its exit codes.

Heavy imports stand inside the commands, so that `fmnist --help` answers at once.
"""

import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from fmnist.cli.about import data, doctor, recipes, summary
from fmnist.cli.audit import audit
from fmnist.cli.export import export
from fmnist.cli.options import say
from fmnist.cli.predict import predict, serve
from fmnist.cli.runs import runs_app
from fmnist.cli.score import compare, evaluate, report, verify
from fmnist.cli.search import sweep
from fmnist.cli.train import ensemble, train
from fmnist.errors import FmnistError
from fmnist.version import __version__

ABOUT = "Train, score and iterate over image classifiers for Fashion-MNIST and its kin."
EXIT_CODES = """
Exit codes: 0 done; 1 failed; 2 a wrong option, recipe or argument; 3 data could not be had or was
refused; 4 the loss became no number; 5 a run folder or model is missing, damaged or in use; 6
memory was short; 129, 130 or 143 stopped by a closed terminal, Ctrl-C or a termination signal
(training then leaves a checkpoint to go on from).
"""
app = typer.Typer(
    help=ABOUT,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


COMMANDS = (
    *(train, evaluate, verify, export, predict, serve, sweep, ensemble, audit, compare),
    *(report, data, doctor, recipes, summary),
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(runs_app, name="runs")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fmnist {__version__}")
        raise typer.Exit


@app.callback(help=ABOUT)
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that come before a command."""


def main() -> NoReturn:
    """The `fmnist` command: runs it and exits, an error as one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × gets a question mark
    try:
        try:
            app(prog_name="fmnist")
        except Exception as error:
            if distributed := sys.modules.get("fmnist.engine.distributed"):
                distributed.leave(error)  # one of several processes ends here
            raise
    except FmnistError as error:
        say(f"error: {error}" if error.exit_code < 128 else str(error))
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        say(
            f"error: this command needs more packages ({error.name} is missing): "
            'pip install "fmnist[train]"'
        )
        sys.exit(2)
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # the reader went away; at exit there must be nothing left to say
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)
