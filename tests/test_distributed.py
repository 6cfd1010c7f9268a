"""Training over real processes on this machine, which meet over loopback."""

import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from idx import write_idx_set

from fmnist.runs import Run

SMALL = [
    *("--set", "model.filters=4,8"), *("--set", "model.pool_after=1,2"), *("--set", "crop=2"),
    *("--set", "cutout=6"), *("--set", "batch_size=52"), *("--set", "epochs=3"),
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_idx_set(tmp_path_factory.mktemp("set"), train=300, test=60)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def start(cache, count, *arguments):
    """`fmnist train ARGUMENTS` as `count` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {
        "KERAS_BACKEND": "jax", "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }  # fmt: skip
    hand = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count)]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "fmnist.cli", "train", *map(str, arguments),
             *((*hand, "--process-id", str(number)) if count > 1 else ())],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        )
        for number in range(count)
    ]  # fmt: skip


def finish(processes):
    """(exit code, output, errors) of each."""
    texts = [each.communicate(timeout=150) for each in processes]
    return [(each.returncode, *text) for each, text in zip(processes, texts, strict=True)]


def differences(one, other):
    a, b = Run(one).load_weights(), Run(other).load_weights()
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_the_first_alone_writes(data, cache, tmp_path):
    """With batch statistics, augmentation and Muon, and a short last batch."""
    train = ["quick", "--data", data, *SMALL]
    (one,) = finish(start(cache, 1, *train, "--run", tmp_path / "one"))
    assert one[0] == 0, one
    first, second = finish(start(cache, 2, *train, "--run", tmp_path / "two"))
    assert (first[0], second[0]) == (0, 0), (first, second)
    assert "val accuracy" in first[1]
    # Gloo itself says on stdout whom it met.
    assert [line for line in second[1].splitlines() if not line.startswith("[Gloo]")] == []
    assert differences(tmp_path / "one", tmp_path / "two") < 1e-5
    assert Run(tmp_path / "two").env["processes"] == 2


@pytest.mark.slow
def test_a_killed_process_ends_the_other_with_a_line(data, cache, tmp_path):
    train = ["quick", "--data", data, *SMALL, "--set", "epochs=2000", "--quiet"]
    begun = start(cache, 2, *train, "--run", tmp_path / "run", "--checkpoint-updates", 5)
    while not list((tmp_path / "run").glob("checkpoint/*.json")):
        assert all(each.poll() is None for each in begun)
    begun[1].send_signal(signal.SIGKILL)
    code, _, errors = finish(begun)[0]
    assert code == 1, errors
    assert "another process of this training has ended" in errors
    assert f"--resume {tmp_path / 'run'}" in errors
