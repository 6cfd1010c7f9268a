"""The data and the two runs that several files of this room use; nothing may change them."""

import signal

import pytest
from tiny import QUIET, small

from fmnist.data.load import load_data
from fmnist.runs.run import Run
from fmnist.training.train import train


@pytest.fixture(scope="session")
def data(small_set):
    return load_data(small_set)


@pytest.fixture(scope="session")
def whole(data, shared):
    """A run of `small()` that nothing interrupted."""
    return Run(shared("whole run", lambda place: train(small(), data, place, progress=QUIET)))


@pytest.fixture(scope="session")
def skilled(data, shared):
    """A run that has learnt the classes."""
    chosen = small(**{"model.filters": "8,16"}, epochs=10, crop=0, cutout=0, learning_rate=0.2)
    return Run(shared("skilled run", lambda place: train(chosen, data, place, progress=QUIET)))


@pytest.fixture(scope="module", autouse=True)
def in_the_foreground():
    """A test runner in the background ignores Ctrl-C, under nohup SIGHUP, and so would training."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
