"""Commands to type, as this program can be called here."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def command(*words: str | os.PathLike[str]) -> str:
    """An `fmnist` command to type, as this program can be called where it is not on the path."""
    name = "fmnist"
    if not shutil.which(name) and Path(sys.argv[0]).name == name:
        name = sys.argv[0]
    return shlex.join([name, *map(str, words)])


def resume_command(path: Path) -> str:
    """What to type to go on with a run."""
    return command("train", "--resume", path)
