"""What holds for every test."""

import fcntl
import os
import shutil

import pytest
from hypothesis import HealthCheck, settings
from idx import write_idx_set

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # some tests import it before fmnist, which sets this

# A shared machine stalls now and then: how long an example takes says nothing here. Where a change
# is judged, it is judged by the same examples each time.
settings.register_profile(
    "fmnist",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fmnist")


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """`shared(name, make)`: the folder that `make(folder)` made, once for all worker processes."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent

    def folder_of(name, make):
        folder, finished = place / name, place / f"{name}.finished"
        with (place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be at it
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                finished.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def small_set(shared):
    """The folder of a data set of 300 images, 20 of them val, and 60 of test."""
    return shared("small set", lambda folder: write_idx_set(folder, train=300, test=60))
