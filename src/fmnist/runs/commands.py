"""Commands for the user to type, with the program name that works here."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def command(*words: str | os.PathLike[str]) -> str:
    """An `fmnist` command to type, with the program's path if it is not on PATH."""
    name = "fmnist"
    if not shutil.which(name) and Path(sys.argv[0]).name == name:
        name = sys.argv[0]
    return shlex.join([name, *map(typed, words)])


def typed(word: str | os.PathLike[str]) -> str:
    """A word of a command, not yet quoted; a path that begins with `-` is no option then."""
    text = os.fspath(word)
    return f"./{text}" if text.startswith("-") and isinstance(word, os.PathLike) else text


def resume_command(path: Path) -> str:
    """The command that resumes a run."""
    return command("train", "--resume", path)
