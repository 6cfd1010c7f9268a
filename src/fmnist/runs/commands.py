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
    return shlex.join([name, *map(str, words)])


def resume_command(path: Path) -> str:
    """The command that resumes a run."""
    return command("train", "--resume", path)
