"""The command line: its table of contents, and its exit codes.

Heavy imports stand inside the commands, so that `fmnist --help` answers at once.
"""

import contextlib
import errno
import io
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from fmnist.cli.about import data, doctor, recipes, summary
from fmnist.cli.audit import audit
from fmnist.cli.export import export
from fmnist.cli.options import say
from fmnist.cli.paths import Command
from fmnist.cli.predict import predict, serve
from fmnist.cli.runs import runs_app
from fmnist.cli.score import compare, evaluate, report, verify
from fmnist.cli.search import sweep
from fmnist.cli.train import ensemble, train
from fmnist.errors import FmnistError, OutOfMemoryError, printable, to_install
from fmnist.version import __version__

ABOUT = "Train, score and use image classifiers for Fashion-MNIST and data like it."
EXIT_CODES = """
\b
Exit codes:
    0  done
    1  failed
    2  wrong option, recipe or argument
    3  the data could not be fetched, or was refused
    4  the loss became infinite or NaN
    5  a run folder or model is missing, damaged or in use
    6  not enough memory
  129  stopped because the terminal was closed
  130  stopped by Ctrl-C
  143  stopped by a termination signal
Training that was stopped leaves a checkpoint; --resume continues from it.
"""
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Make models": (train, sweep, ensemble),
    "Judge models": (evaluate, verify, compare, report),
    "Use models": (predict, serve, export),
    "About data, recipes and this machine": (data, audit, recipes, summary, doctor),
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a print, if no file is named


class Groups(TyperGroup):
    """Lists the commands in their groups, each with the first sentence of its help, uncut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group."""
        width = max(map(len, self.commands))
        groups: dict[str, list[tuple[str, str]]] = {name: [] for name in COMMANDS}
        for name, command in self.commands.items():
            group = groups[command.rich_help_panel]  # type: ignore[attr-defined]
            group.append((f"{name:<{width}}", command.get_short_help_str(limit=80)))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


app = typer.Typer(
    cls=Groups,
    help=ABOUT,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for title, commands in COMMANDS.items():
    for command in commands:
        app.command(cls=Command, rich_help_panel=title)(command)
app.add_typer(runs_app, name="runs", rich_help_panel="Judge models")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fmnist {__version__}")
        raise typer.Exit


@app.callback(help=ABOUT)
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options that come before a command."""


def main() -> NoReturn:
    """The `fmnist` command: runs it and exits, an error as one line on stderr."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed; the next file would get its number
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × gets a question mark
    try:
        try:
            app(prog_name="fmnist")
        except Exception as error:
            if distributed := sys.modules.get("fmnist.engine.distributed"):
                distributed.leave(error)  # one of several processes ends here
            if isinstance(error, OSError) and error.filename is None and error.errno in FULL:
                _cannot_print(error)
            raise
    except FmnistError as error:
        say(f"error: {error}" if error.exit_code < 128 else str(error))
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        say(
            f"error: this command needs the package {error.name}, which is not installed; "
            f"install it with: {to_install('train')}"
        )
        sys.exit(2)
    except MemoryError as error:  # an Exception too
        say(f"error: memory is too small ({str(error) or 'no more is given'}); free some")
        sys.exit(OutOfMemoryError.exit_code)
    except Exception as error:
        say(f"error: {_unexpected(error)}")
        sys.exit(1)
    finally:
        _flush()
    sys.exit(0)


def _unexpected(error: Exception) -> str:
    """A line for an error that nothing expected; its traceback goes into a file of its own."""
    what = printable(f"{type(error).__name__}: {error}")[:300]
    try:
        number, log = tempfile.mkstemp(prefix="fmnist-", suffix=".log")
        with open(number, "w", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            file.write(f"{shlex.join(sys.argv)}\n{''.join(traceback.format_exception(error))}")
    except OSError:
        return f"{what}; this is a fault in fmnist, or of this machine: please report it"
    return (
        f"{what}; this is a fault in fmnist, or of this machine: please report it with {log}, "
        "which says where it was"
    )


def _flush() -> None:
    """Write what is left for stdout. A reader that went away is no error."""
    ending = sys.exc_info()[1]
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            _cannot_print(error, ending.code if isinstance(ending, SystemExit) else 0)
        _drop_output()


def _drop_output() -> None:
    with contextlib.suppress(OSError):  # at exit there must be nothing left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _cannot_print(error: OSError, code: Any = 0) -> NoReturn:
    """Exit with a line about stdout; with 1, unless another error has set the `code`."""
    _drop_output()
    say(f"error: stdout: could not be written ({error.strerror or error})")
    sys.exit(code or 1)
