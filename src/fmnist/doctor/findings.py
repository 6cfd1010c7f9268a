"""The findings of `fmnist doctor`, and commands that may never answer."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Finding:
    """The result of one check; `mend` is the command that fixes it, `values` its figures.

    `level`: ok; note (not set up, or could be better); wrong (installed and broken).
    """

    about: str
    level: str
    found: str
    mend: str = ""
    values: dict[str, Any] = field(default_factory=dict)


class Answer(NamedTuple):
    """How a command ended: its exit code, negative for a signal and None past its time."""

    code: int | None
    out: str
    err: str

    def complaint(self) -> str:
        """The last line on stderr, empty where there is none."""
        return next((line.strip() for line in reversed(self.err.splitlines()) if line.strip()), "")


def ask(command: list[str], seconds: float, environment: Mapping[str, str] | None = None) -> Answer:
    """Run a command for at most `seconds`, even if it crashes, hangs or leaves children.

    Its output goes to files, for a pipe stays open as long as any child has it; and one that hangs
    in a driver cannot even be killed, and is left behind.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            return Answer(127, "", f"{command[0]}: {error.strerror or error}")
        code: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(seconds)
        finally:
            if code is None:
                _kill(process)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(1_000_000).decode(errors="replace"))
    return Answer(code, *texts)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        import signal

        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
