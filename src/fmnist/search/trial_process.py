"""The process of a sweep's trial: `fmnist train`, with its messages in a file."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from fmnist.errors import NonFiniteLossError, UsageError

# The codes of a training that fails by its values: refused, or a loss that is no number.
BY_VALUES = (UsageError.exit_code, NonFiniteLossError.exit_code)
ROOM = 2**16  # bytes without which a disk is full


@contextlib.contextmanager
def training(
    words: Sequence[str], backend: str, said: Path, held: IO[str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `fmnist` with `words` in a process, and stop it when the block ends.

    Args:
        words: the command and its options.
        backend: the engine. All trials use the same one, also after the sweep is resumed.
        said: the file to which its messages are appended.
        held: the sweep's open lock. The process holds it too, should this one be killed before it.
    """
    env = os.environ | {"KERAS_BACKEND": backend}
    env.pop("FMNIST_DATA", None)  # all trials are of the sweep's data too
    with said.open("ab") as file:
        # Its own process group: Ctrl-C reaches this process alone, which passes it on.
        process = subprocess.Popen(
            [sys.executable, "-m", "fmnist", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
            env=env,
            pass_fds=(held.fileno(),) if os.name == "posix" else (),
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait()


def require_room(folder: Path) -> None:
    """Raise OSError where a folder's disk is full."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(ROOM))
        file.flush()


def why_it_failed(said: Path, code: int) -> str:
    """Why a trial's process failed: the signal that killed it, else its last message."""
    if code < 0:
        return f"its process was killed by signal {-code}"
    lines = [
        line for line in said.read_text("utf-8", errors="replace").splitlines() if line.strip()
    ]
    return lines[-1].removeprefix("error: ") if lines else f"it ended with code {code}"
