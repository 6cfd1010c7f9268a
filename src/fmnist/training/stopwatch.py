"""What a training has taken so far: seconds and memory."""

import time

from fmnist import system
from fmnist.engine import backend


class Stopwatch:
    """Seconds of training, which hold those of checkpoints, and beside them of scoring val."""

    def __init__(self) -> None:
        self.seconds = self.scoring_seconds = 0.0
        self._since = time.perf_counter()

    def start(self) -> None:
        """Training begins, or goes on after something that is not counted as training."""
        self._since = time.perf_counter()

    def count(self) -> None:
        """Add what has passed since `start`, or the last `count`, to the seconds of training."""
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now

    def so_far(self) -> dict[str, float]:
        """Seconds of training and of scoring, as `metrics.jsonl` has them."""
        return {
            "seconds": round(self.seconds, 3),
            "scoring_seconds": round(self.scoring_seconds, 3),
        }


def peak_memory() -> dict[str, int | None]:
    """The most memory so far, in bytes: resident, and on an accelerator its own."""
    own = backend.accelerator_memory()[1]
    return {"peak_memory": system.peak()} | ({"peak_accelerator_memory": own} if own else {})
