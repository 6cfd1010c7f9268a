"""Commands for the user to type, with the program name that works here."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def command(*words: str | os.PathLike[str]) -> str:
    """An `fmnist` command to type, with the program's path if it is not on PATH.

    A path that begins with `-` gets a `./`, without which it would be an option.
    """
    name = "fmnist"
    if not shutil.which(name) and Path(sys.argv[0]).name == name:
        name = sys.argv[0]
    paths = (f"./{word}" if _like_an_option(word) else str(word) for word in words)
    return shlex.join([name, *paths])


def _like_an_option(word: str | os.PathLike[str]) -> bool:
    return isinstance(word, os.PathLike) and os.fspath(word).startswith("-")


def resume_command(path: Path) -> str:
    """The command that resumes a run."""
    return command("train", "--resume", path)
