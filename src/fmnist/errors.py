"""The errors that a user can cause or meet, each with the exit code of the command that meets it.

A message says what was expected, what was received and what to do, in one line; the command line
prints it without a traceback. Every other exception is a bug.
"""

import unicodedata

UNPRINTABLE = ("Cc", "Zl", "Zp")  # Unicode's control characters, line and paragraph separators


def printable(text: str) -> str:
    """Text without line breaks or a terminal's commands, which a stranger's names may hold."""
    return "".join("?" if unicodedata.category(c) in UNPRINTABLE else c for c in text)


def to_install(extra: str = "", *others: str) -> str:
    """The command that adds an extra, and other packages: from a checkout, as no index has fmnist.

    It installs the checkout itself editable, and so changes nothing where that was done before.
    """
    words = [f'".[{extra}]"' if extra else ".", *(f'"{other}"' for other in others)]
    return f"pip install -e {' '.join(words)}  # in the checkout"


class FmnistError(Exception):
    """Something went wrong that the user can act on. Exit code 1."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(FmnistError, ValueError):
    """An option, recipe field or argument that is not allowed. Exit code 2."""

    exit_code = 2


class DataError(FmnistError):
    """Data that could not be downloaded or read, or was refused. Exit code 3."""

    exit_code = 3


class NonFiniteLossError(FmnistError):
    """The loss became NaN or infinite; a checkpoint from before it is kept. Exit code 4."""

    exit_code = 4


class OutOfMemoryError(FmnistError):
    """Memory is too small for a micro-batch that cannot be made smaller. Exit code 6."""

    exit_code = 6


class RunError(FmnistError):
    """A run folder that is missing, damaged, incomplete or in use. Exit code 5."""

    exit_code = 5
