"""Tries a model in a process of its own: `python -m fmnist.inference.trial FILE`.

A graph may compute for ever, take all memory while it is opened, or end the process that runs it.
So a model that is not the one in the box answers for two images there, before it is used here.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path

import numpy as np

from fmnist.errors import FmnistError, RunError
from fmnist.inference.apart import run_apart
from fmnist.system import limit_memory

SECONDS = 30.0  # a start, which is most of it, takes one or two
MEMORY = 4 * 2**30  # bytes of its own that the process may take
_tried: set[tuple[str, int, int]] = set()


def require_answers(path: Path) -> None:
    """Raise RunError unless a model answers in time; what this process has tried is not again."""
    about = path.stat()
    key = (str(path.resolve()), about.st_mtime_ns, about.st_size)
    if key in _tried:
        return
    ended = run_apart("fmnist.inference.trial", str(path), seconds=SECONDS)
    if ended is None:
        raise RunError(
            f"{path}: expected a model that answers for two images within {SECONDS:g} s, received "
            "one that does not; use another"
        )
    if ended.code == 1 and ended.out:
        raise RunError(ended.out.splitlines()[0])
    if ended.code:
        raise RunError(
            f"{path}: expected a model that answers for two images, received one that ends the "
            f"process which runs it (code {ended.code}); use another"
        )
    _tried.add(key)


def main() -> None:
    """Open the model and let it answer for two images, and for one of them alone."""
    limit_memory(MEMORY)
    with contextlib.suppress(ModuleNotFoundError):  # Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if hasattr(signal, "alarm"):  # not on Windows; for a parent that was killed meanwhile
        signal.alarm(round(SECONDS) + 5)
    from fmnist.inference.classifier import Classifier

    try:
        classifier = Classifier.open(Path(sys.argv[1]), threads=1)
        images = np.random.RandomState(0).randint(0, 256, (2, *classifier.shape), dtype=np.uint8)
        classifier.run(images)
        classifier.run(images[:1])
    except (FmnistError, MemoryError) as error:
        print(error if isinstance(error, FmnistError) else f"{sys.argv[1]}: takes too much memory")
        sys.exit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
