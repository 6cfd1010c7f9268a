"""What the shipped recipes have reached, as their records say."""

from typing import NamedTuple


class Result(NamedTuple):
    """A recorded result on Fashion-MNIST's 10,000 test images."""

    accuracy: float
    """the mean over seeds, as a share"""
    deviation: float | None
    """standard deviation over seeds; None for one seed"""
    seeds: int
    seconds: float
    """of training, without scoring: the median over seeds"""
    device: str
    record: str


RESULTS = {
    "quick": (Result(0.9429, 0.0012, 5, 68, "2 cores, AMX", "records/2026-11-27-quick"),),
    "standard": (Result(0.9503, 0.0007, 3, 1196, "2 cores", "records/2026-11-23-standard"),),
    "strong": (Result(0.9561, None, 1, 4839, "2 cores, AMX", "records/2026-11-24-strong"),),
    "strong-gpu": (Result(0.9602, 0.0009, 3, 144, "H200", "records/2026-11-26-h200-strong-gpu"),),
    "tiny": (Result(0.9482, 0.0015, 3, 791, "2 cores, AMX", "records/2026-11-24-tiny"),),
    "reference": (
        Result(0.9427, None, 1, 2912, "2 cores, AMX", "records/2026-11-24-seed"),
        Result(0.9437, 0.0013, 3, 10, "H200", "records/2026-11-26-h200-seed"),
    ),
}
