"""Which precision `auto` stands for, and that two engines do the same updates."""

import os
import subprocess
import sys

import pytest
import updates

from fmnist.engine import backend, precision


def test_a_precision_that_is_named_is_taken():
    assert precision.resolve_precision("bfloat16") == "bfloat16"
    assert precision.resolve_precision("float32") == "float32"


def test_auto_is_the_same_each_time():
    assert precision.resolve_precision("auto") == precision.resolve_precision("auto")
    assert precision.resolve_precision("auto") in ("bfloat16", "float32")


@pytest.mark.skipif(backend.name() != "tensorflow", reason="float32 on JAX's CPU device")
@pytest.mark.parametrize("native", ["", "AVX512-BF16"])
@pytest.mark.parametrize("faster", [False, True])
def test_auto_takes_bfloat16_where_it_is_native_and_faster(monkeypatch, native, faster):
    seconds = {"float32": 0.02, "bfloat16": 0.01 if faster else 0.03}
    monkeypatch.setattr(precision, "native_bfloat16", lambda: native)
    monkeypatch.setattr(precision, "_convolution_seconds", lambda: seconds)
    expected = "bfloat16" if native and faster else "float32"
    assert precision.resolve_precision("auto") == expected
    assert precision.choose_precision()[0] == expected


def test_twenty_updates_are_the_same_on_both_engines(tmp_path):
    """From the same state, with the same crops, mirrors, cutouts and dropout, in float32."""
    updates.main("free", tmp_path)
    other = {"tensorflow": "jax", "jax": "tensorflow"}[backend.name()]
    command = [sys.executable, updates.__file__, "led", tmp_path]
    # Twice as fast to compile; what XLA's costly passes do is not what is compared.
    env = os.environ | {"KERAS_BACKEND": other, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    subprocess.run(command, check=True, env=env)
    updates.check(tmp_path)


@pytest.mark.skipif(backend.name() != "tensorflow", reason="JAX takes no number of threads")
def test_threads_are_no_more_than_the_processors(monkeypatch):
    """As of a run that says it was begun with 4096."""
    asked = []
    threading = backend.tf.config.threading
    monkeypatch.setattr(threading, "set_intra_op_parallelism_threads", asked.append)
    monkeypatch.setattr(threading, "get_intra_op_parallelism_threads", lambda: 1)
    assert not backend.use_threads(4096)
    assert asked == [len(os.sched_getaffinity(0))] or len(os.sched_getaffinity(0)) == 1
