"""Stands in for the run in the processes that write nothing: all but process 0."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fmnist.engine import distributed
from fmnist.runs.run import Run

Arrays = Mapping[str, NDArray[Any]]


class NullCheckpoints:
    """The methods of `Checkpoints`, without files."""

    def save(self, update: int, arrays: Arrays, about: Mapping[str, Any]) -> None:
        """Write nothing."""

    def load(
        self, report: Callable[[str], object], expected: Mapping[str, tuple[int, ...]]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Find nothing."""
        return None


class NullRun:
    """The methods of `Run` that the training loop calls, without a folder.

    `path` is the folder of the first process, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.checkpoints = path, NullCheckpoints()
        self.env: Mapping[str, Any] = {}

    def locked(self) -> AbstractContextManager[object]:
        """Hold nothing."""
        return nullcontext()

    def drop_temporaries(self) -> None:
        """Remove nothing."""

    def change_env(self, **values: Any) -> None:
        """Write nothing."""

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        """Write nothing."""

    def keep_metrics(self, until: int) -> None:
        """Drop nothing."""


def in_every_process(run: Run | None) -> Run | NullRun:
    """In process 0 its run; in the others a `NullRun`."""
    path = distributed.share(str(run.path) if run else "")
    return run or NullRun(Path(path))
