"""Stopping by signal: what is at work finishes its step, keeps its state and says how to go on."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from fmnist.errors import FmnistError


class Interrupted(FmnistError):
    """Work was asked to stop by signal `number` and can go on. Exit code 128 + `number`."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


@contextlib.contextmanager
def stop_signals(*, repeated: bool = False) -> Iterator[list[int]]:
    """Collects SIGINT, SIGTERM and SIGHUP, so that a step can be finished first.

    A second one acts at once, or is collected too if `repeated`. What is ignored, as SIGHUP is
    under nohup, stays ignored.
    """
    caught: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if repeated:
            return
        for each, handler in before.items():
            signal.signal(each, handler)

    with contextlib.suppress(ValueError):  # only a program's main thread may set handlers
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield caught
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
