"""Schedules and Muon against formulas written out, and against Keras on matrices."""

import math

import numpy as np
import pytest

from fmnist.engine import keras, ops, optimizers
from fmnist.engine.learning_rate import WarmupSchedule
from fmnist.recipes.shipped import recipe

pytestmark = pytest.mark.engines


def variable(shape, seed=0, name="kernel"):
    value = np.random.RandomState(seed).normal(size=shape).astype("float32")
    return keras.Variable(value, name=name)


def gradients_for(shape, count=4):
    random = np.random.RandomState(5)
    return [random.normal(size=shape).astype("float32") for _ in range(count)]


def follow(optimizer, v, gradients):
    optimizer.build([v])
    for g in gradients:
        optimizer.apply([ops.convert_to_tensor(g)], [v])
    return ops.convert_to_numpy(v)


def test_schedule():
    schedule = WarmupSchedule(0.4, 100, 0.25)
    for update in (0, 10, 24, 25, 60, 99):
        done = (update + 0.5) / 100
        fallen = (done - 0.25) / 0.75
        expected = 0.4 * (done / 0.25 if done < 0.25 else 1 - fallen)
        assert float(schedule(update)) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_schedule_without_warm_up_starts_at_the_peak():
    schedule = WarmupSchedule(0.4, 1000, 0)
    assert float(schedule(0)) == pytest.approx(0.4, rel=1e-3)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
def test_muon_equals_keras_on_matrices(shape):
    results = [
        follow(kind(learning_rate=0.1, weight_decay=0.01), variable(shape), gradients_for(shape))
        for kind in (keras.optimizers.Muon, optimizers.Muon)
    ]
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)
    assert np.abs(results[1] - ops.convert_to_numpy(variable(shape))).max() > 0.01


def test_muon_treats_a_convolution_as_the_matrix_of_its_filters():
    shape, matrix = (3, 3, 4, 8), (36, 8)
    ours = follow(optimizers.Muon(learning_rate=0.1), variable(shape), gradients_for(shape))
    flat = keras.Variable(ops.convert_to_numpy(variable(shape)).reshape(matrix), name="kernel")
    theirs = follow(
        keras.optimizers.Muon(learning_rate=0.1),
        flat,
        [g.reshape(matrix) for g in gradients_for(shape)],
    )
    np.testing.assert_allclose(ours.reshape(matrix), theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((40,), {}),
        ((3, 3, 1, 8), {}),
        ((50, 30), {"largest": 1000}),
        ((50, 30), {"exclude_layers": ["head"]}),
    ],
)
def test_muon_leaves_the_rest_to_adamw(shape, options):
    rest = {"beta_1": 0.9, "beta_2": 0.999, "weight_decay": 0.004, "epsilon": 1e-7}
    with keras.name_scope("head"):
        one, other = variable(shape), variable(shape)
    ours = follow(
        optimizers.Muon(learning_rate=0.01, rms_rate=None, **options), one, gradients_for(shape)
    )
    theirs = follow(keras.optimizers.AdamW(learning_rate=0.01, **rest), other, gradients_for(shape))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_muon_keeps_the_norm_where_asked():
    shape = (3, 3, 4, 8)
    value = follow(
        optimizers.Muon(learning_rate=0.1, rms_rate=None, keep_norm=True),
        variable(shape),
        gradients_for(shape),
    )
    assert np.linalg.norm(value) == pytest.approx(math.sqrt(2 * 8), rel=1e-5)


@pytest.mark.parametrize("decay", [0.2, 0])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_decay_is_decoupled_and_spares_biases_and_norms(name, decay):
    """With zero gradients only decay moves a weight: by 1 - rate × decay, kernels alone."""
    chosen = recipe(
        "reference", optimizer=name, learning_rate=0.5, weight_decay=decay, warmup=0, adam_ratio=1
    )
    optimizer = optimizers.build(chosen, 10)
    weights = [variable((5, 4), name=n) for n in ("kernel", "bias", "gamma", "beta")]
    before = ops.convert_to_numpy(weights[0])
    optimizer.build(weights)
    optimizer.apply([ops.zeros((5, 4)) for _ in weights], weights)
    rate = 0.5 * (1 - 0.5 / 10)
    np.testing.assert_allclose(
        ops.convert_to_numpy(weights[0]), before * (1 - rate * decay), rtol=1e-5
    )
    for spared in weights[1:]:
        np.testing.assert_array_equal(ops.convert_to_numpy(spared), before)


def test_clipping_bounds_the_global_norm():
    """By the first moment, which after one update is 1 - beta_1 = 0.1 of the clipped gradient."""
    chosen = recipe("reference", clip_norm=0.1)
    optimizer = optimizers.build(chosen, 10**6)
    weights = [variable((5, 4)), variable((3,), name="bias")]
    optimizer.build(weights)
    optimizer.apply([ops.ones((5, 4)) * 7, ops.ones((3,)) * -7], weights)
    moments = [ops.convert_to_numpy(m) for m in optimizer._momentums]
    assert math.sqrt(sum((m**2).sum() for m in moments)) == pytest.approx(0.01, rel=1e-4)
    assert (moments[0] > 0).all()
    assert (moments[1] < 0).all()
