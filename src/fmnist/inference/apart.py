"""Runs a module in a process of its own, which a stopping signal ends too."""

import contextlib
import math
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from fmnist.signals import Interrupted, stop_signals

PATIENCE = 5.0  # seconds in which a process may take away what it has half written


class Ended(NamedTuple):
    """A process that ended by itself: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


def run_apart(*words: str, seconds: float = math.inf, writes: bool = False) -> Ended | None:
    """Run `python -m` with these words; None where it does not end within `seconds`.

    A process that `writes` gets Ctrl-C's signal before it is killed. Raises Interrupted after a
    stopping signal, once the process is gone.
    """
    # -P: no file in the working directory is taken for a module.
    command = [sys.executable, "-P", "-m", *words]
    with stop_signals() as caught:  # before there is a process that a signal could leave behind
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        try:
            said = _said(process, seconds, caught)
        finally:
            if writes and process.poll() is None:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=PATIENCE)
            process.kill()
            process.communicate()
    if caught:
        raise Interrupted(caught[0], "stopped")
    return said and Ended(process.returncode, *said)


def _said(
    process: "subprocess.Popen[str]", seconds: float, caught: list[int]
) -> tuple[str, str] | None:
    """What the process writes, None if it does not end in time or a stopping signal is caught."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not caught:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=0.1)
    return None
