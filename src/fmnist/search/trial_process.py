"""The process of a sweep's trial: `fmnist train`, and what it said."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def training(
    words: Sequence[str], backend: str, said: Path, held: IO[str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that runs `fmnist` with `words`; it is ended with the block.

    Args:
        words: the command and its options.
        backend: the engine. All trials are of one engine, whatever the sweep is resumed with.
        said: the file to which what it says is appended.
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


def why_it_failed(said: Path, code: int) -> str:
    """The last line that a trial's process said, which is of its progress if it was killed."""
    if code < 0:
        return f"its process was killed by signal {-code}"
    lines = [
        line for line in said.read_text("utf-8", errors="replace").splitlines() if line.strip()
    ]
    return lines[-1].removeprefix("error: ") if lines else f"it ended with code {code}"
