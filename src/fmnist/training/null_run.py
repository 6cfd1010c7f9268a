"""The run of the processes that write none: of several that train together, all but the first."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fmnist.engine import distributed
from fmnist.runs.run import Run

Arrays = Mapping[str, NDArray[Any]]


class NullCheckpoints:
    """The methods of `Checkpoints`, which write nothing and find nothing."""

    def save(self, update: int, arrays: Arrays, about: Mapping[str, Any]) -> None:
        """Write nothing."""

    def load(
        self, report: Callable[[str], object], expected: Mapping[str, tuple[int, ...]]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Find nothing."""
        return None


class NullRun:
    """What the training loop calls of a `Run`, without a folder of its own.

    `path` is the folder of the first process, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.checkpoints = path, NullCheckpoints()

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
    """The first process's run as it is, and in the others one that does nothing."""
    path = distributed.share(str(run.path) if run else "")
    return run or NullRun(Path(path))
