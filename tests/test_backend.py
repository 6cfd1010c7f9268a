"""Which precision `auto` stands for, and that two engines do the same updates."""

import os
import subprocess
import sys

import numpy as np
import pytest
import updates

from fmnist import backend


def test_a_precision_that_is_named_is_taken():
    assert backend.resolve_precision("bfloat16") == "bfloat16"
    assert backend.resolve_precision("float32") == "float32"


def test_auto_is_the_same_each_time():
    assert backend.resolve_precision("auto") == backend.resolve_precision("auto")
    assert backend.resolve_precision("auto") in ("bfloat16", "float32")


@pytest.mark.skipif(backend.name() != "tensorflow", reason="float32 on JAX's CPU device")
@pytest.mark.parametrize("native", ["", "AVX512-BF16"])
@pytest.mark.parametrize("faster", [False, True])
def test_auto_takes_bfloat16_where_it_is_native_and_faster(monkeypatch, native, faster):
    seconds = {"float32": 0.02, "bfloat16": 0.01 if faster else 0.03}
    monkeypatch.setattr(backend, "_native_bfloat16", lambda: native)
    monkeypatch.setattr(backend, "_convolution_seconds", lambda: seconds)
    expected = "bfloat16" if native and faster else "float32"
    assert backend.resolve_precision("auto") == expected
    assert backend.choose_precision()[0] == expected


def test_twenty_updates_are_the_same_on_both_engines(tmp_path):
    """From the same state, with the same crops, mirrors, cutouts and dropout, in float32.

    Each update begins from what the other engine had before it. Left to themselves the engines
    drift apart from the first value whose sign, or place of a maximum, rounding decides: then only
    the loss is compared.
    """
    ours = {name: updates.free(updates.begin(name)) for name in updates.CHANGES}
    for name, (states, _) in ours.items():
        updates.save(tmp_path / f"{name}.npz", states)
    other = {"tensorflow": "jax", "jax": "tensorflow"}[backend.name()]
    environment = os.environ | {"KERAS_BACKEND": other}
    subprocess.run([sys.executable, updates.__file__, tmp_path], check=True, env=environment)
    for name, (states, losses) in ours.items():
        theirs, arrays = updates.load(tmp_path / f"{name}-after.npz")
        np.testing.assert_allclose(losses, arrays["losses"], atol=1e-3)
        assert {*states[0]} == {*theirs[0]}
        for path in states[0]:
            differences = []
            for before, after, their in zip(states[:-1], states[1:], theirs, strict=True):
                moved = np.abs(after[path] - before[path]).max() or 1
                differences.append(np.abs(after[path] - their[path]).max() / moved)
            # Measured: 2e-5, and 2e-4. One of 20 may hold a decision that rounding takes.
            assert np.median(differences) < 2e-4, (name, path, differences)
            assert np.max(differences) < 0.1, (name, path, differences)
