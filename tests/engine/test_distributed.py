"""Training over real processes on this machine, which meet over loopback."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from fmnist.engine import distributed
from fmnist.runs.run import Run

SMALL = [
    *("--set", "model.filters=4,8"),
    *("--set", "model.pool_after=1,2"),
    *("--set", "crop=2"),
    *("--set", "cutout=6"),
    *("--set", "batch_size=52"),
    *("--set", "epochs=3"),
]


@pytest.fixture(scope="module")
def data(small_set):
    return small_set


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def start(cache, count, *arguments):
    """`fmnist train ARGUMENTS` as `count` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # half as long to compile
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    hand = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count)]
    return [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "fmnist",
                "train",
                *map(str, arguments),
                *((*hand, "--process-id", str(number)) if count > 1 else ()),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        for number in range(count)
    ]


def finish(processes):
    """(exit code, output, errors) of each."""
    texts = [each.communicate(timeout=600) for each in processes]
    return [(each.returncode, *text) for each, text in zip(processes, texts, strict=True)]


def differences(one, other):
    a, b = Run(one).load_weights(), Run(other).load_weights()
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


@pytest.fixture(scope="module")
def alone(data, cache, tmp_path_factory):
    """What one process makes of it."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    (one,) = finish(start(cache, 1, "quick", "--data", data, *SMALL, "--run", folder))
    assert one[0] == 0, one
    return folder


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_give_what_one_gives_and_the_first_alone_writes(
    data, cache, alone, tmp_path, count
):
    """With batch statistics, augmentation and Muon, and a short last batch."""
    train = ["quick", "--data", data, *SMALL, "--run", tmp_path / "run"]
    first, *others = finish(start(cache, count, *train))
    assert {first[0], *(other[0] for other in others)} == {0}, (first, others)
    assert "val accuracy" in first[1]
    for other in others:  # Gloo itself says on stdout whom it met.
        assert [line for line in other[1].splitlines() if not line.startswith("[Gloo]")] == []
    assert differences(alone, tmp_path / "run") < 1e-5
    assert Run(tmp_path / "run").env["processes"] == count


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "then"), [(1, 1), (0, 4)])
def test_a_killed_process_ends_the_other_with_a_line_and_any_number_goes_on(
    data, cache, alone, tmp_path, victim, then
):
    run = tmp_path / "run"
    train = ["quick", "--data", data, *SMALL, "--quiet", "--run", run]
    begun = start(cache, 2, *train, "--checkpoint-updates", 1)
    while not list(run.glob("checkpoint/*.json")):
        assert all(each.poll() is None for each in begun), finish(begun)
        time.sleep(0.002)
    begun[victim].send_signal(signal.SIGKILL)
    begin = time.monotonic()
    ended = finish(begun)
    assert time.monotonic() - begin < distributed.HEARTBEAT_SECONDS + 300
    code, _, errors = ended[1 - victim]
    assert code == 1, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("process ")]
    assert "another process of this training has ended" in line
    assert f"--resume {run}" in line
    assert not Run(run).weights_path.exists()
    results = finish(start(cache, then, "--resume", run))
    assert {code for code, *_ in results} == {0}, results
    assert differences(alone, run) < 1e-5
