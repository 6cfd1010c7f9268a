"""On a real GPU or TPU: `pytest -m accelerator`, with KERAS_BACKEND=jax.

FMNIST_ACCELERATOR=cpu runs, on JAX's processor device, those that a processor can pass too.
"""

import os
import subprocess
import sys
import time

# Neither this process nor those that it starts, which inherit it, take all of the memory at once.
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

import numpy as np
import pytest
import updates

from fmnist.engine import backend, precision
from fmnist.runs.run import Run

NONE = backend.name() != "jax" or backend.device().startswith("cpu")
pytestmark = [
    pytest.mark.accelerator,
    pytest.mark.skipif(
        NONE and os.environ.get("FMNIST_ACCELERATOR") != "cpu", reason="no accelerator on JAX here"
    ),
]
real = pytest.mark.skipif(NONE, reason="no accelerator on JAX here")
# Products in full float32, not TF32; the same algorithms in every process, and none that adds in
# whatever order its threads come.
EXACT = {
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    "XLA_FLAGS": "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0",
}
SMALL = [
    "quick",
    *("--set", "model.filters=8,16"),
    *("--set", "model.pool_after=1,2"),
    *("--set", "crop=2"),
    *("--set", "cutout=6"),
    *("--set", "batch_size=64"),
    *("--set", "epochs=4"),
    *("--set", "precision=float32"),
]
PLAIN = [
    "reference",
    *("--set", "model.filters=8,16"),
    *("--set", "model.pool_after=1,2"),
    *("--set", "model.dense_units=32"),
    *("--set", "epochs=2"),
    *("--set", "precision=float32"),
]


@pytest.fixture(scope="module")
def data(small_set):
    """Its training images make 5 updates an epoch, the last a short one."""
    return small_set


@pytest.fixture
def fmnist(data):
    """`fmnist train` in a process of its own, into a folder; its run."""

    def train(folder, *arguments, stop=False, **environment):
        """If `stop`, it is stopped by SIGTERM once it has a checkpoint."""
        command = [sys.executable, "-m", "fmnist", "train", "--data", data, "--quiet"]
        command += arguments if "--resume" in arguments else [*arguments, "--run", folder]
        process = subprocess.Popen(
            [*map(str, command)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"KERAS_BACKEND": "jax"} | EXACT | environment,
        )
        if stop:
            while process.poll() is None and not [*folder.glob("checkpoint/*.json")]:
                time.sleep(0.01)
            process.terminate()
        out, errors = process.communicate()
        assert process.returncode == (143 if stop else 0), out + errors
        return Run(folder)

    return train


def difference(one, other):
    """The largest of any weight."""
    a, b = one.load_weights(), other.load_weights()
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


@real
def test_auto_is_bfloat16_and_the_memory_is_known():
    assert precision.choose_precision() == ("bfloat16", "an accelerator")
    assert backend.updates_ahead() > 0
    assert precision.product_rate("float32") > 0  # so that there is something in it
    limit, peak = backend.accelerator_memory()
    assert limit > 10**9
    assert 0 < peak < limit


def test_twenty_updates_are_those_of_the_processor(tmp_path):
    for mode, where in (("free", {"JAX_PLATFORMS": "cpu"}), ("led", {})):
        environment = os.environ | {"KERAS_BACKEND": "jax"} | EXACT | where
        command = [sys.executable, updates.__file__, mode, tmp_path]
        device = subprocess.run(
            command, check=True, env=environment, text=True, stdout=subprocess.PIPE
        ).stdout
        assert device.startswith("cpu") == (mode == "free" or NONE)
    updates.check(tmp_path)


def test_the_division_into_micro_batches_changes_nothing_but_rounding(fmnist, tmp_path):
    whole = fmnist(tmp_path / "whole", *PLAIN)
    parts = fmnist(tmp_path / "parts", *PLAIN, "--micro-batch", 17)
    assert difference(whole, parts) < 1e-5


@pytest.mark.parametrize("recipe", [SMALL, PLAIN], ids=["compact", "plain"])
def test_resume_is_bit_for_bit(fmnist, tmp_path, recipe):
    """With XLA held to deterministic operations, and bfloat16 where that is what trains."""
    words = [*recipe, "--set", "precision=auto", "--set", "epochs=150"]
    whole = fmnist(tmp_path / "whole", *words)
    begun = fmnist(tmp_path / "run", *words, "--checkpoint-updates", 7, stop=True)
    assert not begun.weights_path.exists()
    ended = fmnist(tmp_path / "run", "--resume", begun.path)
    assert difference(whole, ended) == 0


@real
def test_memory_is_the_accelerators_own_and_is_kept_within(fmnist, tmp_path):
    """The reference network, whose state and gradients alone take 0.9 GB.

    The limit is for XLA's plan, 1.08 GB with 8 images and 2.9 MB an image more (H200). On top come
    what convolution libraries borrow and what trying their algorithms takes: 0.3 GB there.
    """
    words = ["reference", "--set", "epochs=1", "--set", "batch_size=256", "--memory", "1.5GB"]
    run = fmnist(tmp_path / "run", *words)
    assert run.env["micro_batch"] < 256
    assert all(0.5e9 < planned < 1.5e9 for planned in run.env["probe"].values())
    assert 0.5e9 < run.metrics()[-1]["peak_accelerator_memory"] <= 2e9
