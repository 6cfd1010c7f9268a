"""The networks: the reference to the letter, layers against Keras' own, options, refusals."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
from idx import write_idx_set

import fmnist
from fmnist.engine import augment, backend, keras, networks, ops
from fmnist.engine.layers import BatchNorm
from fmnist.engine.networks import own
from fmnist.engine.networks.compact import haar_stem
from fmnist.errors import UsageError
from fmnist.recipes import networks as options
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import RECIPES, recipe

pytestmark = pytest.mark.engines
LONG = pytest.mark.long_on_jax
# The reference's published table: layer, output shape, parameters.
REFERENCE = [
    ("random_crop", (28, 28, 1), 0),
    ("random_flip", (28, 28, 1), 0),
    ("conv2d", (28, 28, 256), 2_560),
    ("conv2d_1", (28, 28, 512), 1_180_160),
    ("max_pooling2d", (14, 14, 512), 0),
    ("conv2d_2", (14, 14, 512), 2_359_808),
    ("conv2d_3", (14, 14, 512), 2_359_808),
    ("flatten", (100_352,), 0),
    ("dense", (512,), 51_380_736),
    ("dropout", (512,), 0),
    ("dense_1", (10,), 5_130),
]


def test_reference_is_the_published_network_row_by_row():
    model = networks.build(recipe("reference"))
    rows = [(x.name, tuple(x.output.shape[1:]), x.count_params()) for x in model.layers]
    assert rows == REFERENCE
    assert model.count_params() == 57_288_202
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds[2:7] == ["Conv2D", "Conv2D", "MaxPooling2D", "Conv2D", "Conv2D"]
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert (layer.kernel_size, layer.padding) == ((3, 3), "same")


# One of each network on JAX, where each initialiser and layer is compiled by itself.
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("reference", "quick", "strong-gpu") else pytest.param(name, marks=LONG)
        for name in RECIPES
    ],
)
def test_every_recipe_builds_and_maps_images_to_finite_float32_logits(name):
    small = {
        "reference": {"model.filters": "4,4", "model.dense_units": "8"},
        "strong-gpu": {"model.depth": "10", "model.width": "1"},
    }
    model = networks.build(recipe(name, **small.get(name, {})))
    x = np.random.RandomState(0).normal(size=(3, 28, 28, 1)).astype("float32")
    logits = model(x, training=False)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert logits.shape == (3, 10)
    assert np.isfinite(ops.convert_to_numpy(logits)).all()


def test_tiny_has_at_most_100_000_parameters():
    assert networks.build(recipe("tiny")).count_params() <= 100_000


def test_weights_follow_the_seed():
    def first(seed):
        model = networks.build(recipe("tiny", seed=seed))
        return [ops.convert_to_numpy(v) for v in model.trainable_variables]

    for a, b in zip(first(1), first(1), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first(1), first(2), strict=True))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("reference", {}),
        ("reference", {"model.dense_units": "0", "model.filters": "3,5"}),
        ("quick", {}),
        ("standard", {}),
        ("tiny", {}),
        ("quick", {"model.filters": "7,2", "model.pool_after": 1}),
        ("strong-gpu", {"model.depth": "16", "model.width": "2", "cutout": "4"}),
        ("strong-gpu", {"model.depth": "10", "model.width": "1", "cutout": "4"}),
    ],
)
@pytest.mark.parametrize(("shape", "classes"), [((28, 28, 1), 10), ((9, 14, 1), 3)])
def test_parameters_and_operations_are_counted_before_a_network_is_made(
    name, changes, shape, classes
):
    chosen = recipe(name, **changes)
    model = networks.build(chosen, shape, classes)
    assert chosen.options.parameters(shape, classes) == model.count_params()
    operations = 0
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            places = math.prod(layer.output.shape[1:3]) if len(layer.kernel.shape) == 4 else 1
            operations += 2 * places * math.prod(layer.kernel.shape)
    assert chosen.options.operations(shape, classes) == operations == own.operations(model)


def test_wide_has_the_published_parameters_and_layers():
    """WRN-28-10 has 36,479,194 for three input channels (Zagoruyko & Komodakis 2016: 36.5 M)."""
    chosen = recipe("strong-gpu", **{"model.depth": "28", "model.width": "10"})
    options = chosen.options
    norms = 16 + sum(after for _, after, _ in options.blocks)
    norms += sum(before for before, *_ in options.blocks[1:]) + 64 * 10
    statistics = 2 * norms
    assert options.parameters((28, 28, 1), 10) - statistics == 36_479_194 - 2 * 9 * 16
    assert options.operations((28, 28, 1), 10) * 3 * 60_000 == pytest.approx(1.45e15, rel=0.01)
    layers = networks.build(
        recipe("strong-gpu", **{"model.depth": "28", "model.width": "1"})
    ).layers
    kernels = [layer.kernel_size for layer in layers if isinstance(layer, keras.layers.Conv2D)]
    assert kernels.count((3, 3)) == 25
    assert kernels.count((1, 1)) == 2  # with width 1 the first group keeps its 16 channels


def test_wide_is_norm_relu_convolution_twice_beside_a_shortcut():
    small = {"model.depth": "10", "model.width": "2", "cutout": "0", "precision": "float32"}
    model = networks.build(recipe("strong-gpu", **small), (9, 7, 1), 3)
    random = np.random.RandomState(0)
    for layer in model.layers:
        if isinstance(layer, BatchNorm):
            for variable in (layer.gamma, layer.beta, layer.mean, layer.variance):
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif layer.name == "logits":
            layer.kernel.assign(random.normal(size=layer.kernel.shape))
    places = {layer.name: layer for layer in model.layers}
    image = random.normal(size=(2, 9, 7, 1)).astype("float32")

    def norm(x, number):
        b = places[networks.numbered("batch_norm", number)]
        return ops.relu((x - b.mean) / ops.sqrt(b.variance + b.epsilon) * b.gamma + b.beta)

    def conv(x, number, stride=1):
        kernel = places[networks.numbered("conv2d", number)].kernel
        return ops.conv(x, kernel, strides=stride, padding="same")

    x = conv(image, 0)
    for block, stride in enumerate((1, 2, 2)):
        y = norm(x, 2 * block)
        shortcut = conv(y, 3 * block + 1, stride)
        y = norm(conv(y, 3 * block + 2, stride), 2 * block + 1)
        x = shortcut + conv(y, 3 * block + 3)
    x = ops.mean(norm(x, 6), axis=(1, 2))
    expected = ops.convert_to_numpy(ops.matmul(x, places["logits"].kernel))
    np.testing.assert_allclose(model(image, training=False), expected, rtol=1e-4, atol=1e-4)


def test_a_network_too_large_is_refused_before_it_is_made():
    with pytest.raises(UsageError, match="at most 1,000,000,000 parameters, received 38,"):
        networks.build(recipe("quick", **{"model.filters": ",".join(["8192"] * 64)}))


def test_options_change_the_network():
    plain = {"model.filters": "8,16", "model.dense_units": "0", "model.pool_after": "none"}
    names = [x.name for x in networks.build(recipe("reference", **plain)).layers]
    assert "max_pooling2d" not in names
    assert names[-2:] == ["dropout", "dense"]
    twice = networks.build(recipe("reference", **(plain | {"model.pool_after": "1,2"})))
    assert twice.get_layer("flatten").output.shape[1:] == (7 * 7 * 16,)


def test_a_shortcut_adds_a_convolutions_input_to_its_normalised_output():
    changes = {"model.filters": "4,4", "model.pool_after": "none", "precision": "float32"}
    model = networks.build(recipe("quick", **changes, **{"model.shortcuts": "2"}))
    x = np.random.RandomState(0).normal(size=(3, 28, 28, 1)).astype("float32")
    normed = keras.Model(
        model.input, [model.get_layer(name).output for name in ("re_lu", "batch_norm_1", "re_lu_1")]
    )
    before, branch, after = map(ops.convert_to_numpy, normed(x, training=False))
    np.testing.assert_allclose(after, np.maximum(before + branch, 0), atol=1e-6)
    assert (after > branch + 0.01).any()


def test_too_small_images_are_refused():
    with pytest.raises(UsageError, match="at least 2 pixels"):
        networks.build(recipe("reference"), (1, 1, 1), 10)


def test_other_shapes_and_class_counts():
    changes = {"model.filters": "4,4", "model.dense_units": "8"}
    model = networks.build(recipe("reference", **changes), (8, 12, 1), 3)
    assert model.output_shape == (None, 3)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_equals_keras(training):
    x = np.random.RandomState(0).normal(2, 3, (16, 5, 4, 6)).astype("float32")
    ours, theirs = BatchNorm(0.8, 1e-3), keras.layers.BatchNormalization(momentum=0.8)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 6))
        layer.beta.assign(np.linspace(-1, 1, 6))
        layer(x, training=True)
        layer(x + 1, training=True)
    out = [ops.convert_to_numpy(layer(x, training=training)) for layer in (ours, theirs)]
    np.testing.assert_allclose(out[0], out[1], atol=2e-2 if not training else 1e-4)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours.mean), ops.convert_to_numpy(theirs.moving_mean), rtol=1e-4
    )
    # Ours keeps the unbiased variance: n / (n - 1) with n = 16·5·4, started from 1.
    biased = ops.convert_to_numpy(theirs.moving_variance) - 0.64
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours.variance) - 0.64, biased * 320 / 319, rtol=1e-3
    )


def test_bfloat16_keeps_float32_weights_and_agrees_with_float32():
    x = np.random.RandomState(0).normal(size=(8, 28, 28, 1)).astype("float32")
    logits = {}
    for precision in ("float32", "bfloat16"):
        model = networks.build(recipe("tiny", precision=precision))
        assert {keras.backend.standardize_dtype(v.dtype) for v in model.variables} == {"float32"}
        # The head starts at zero: give it weights, so that there is something to compare.
        head = model.layers[-1]
        head.kernel.assign(np.random.RandomState(1).normal(size=head.kernel.shape))
        logits[precision] = ops.convert_to_numpy(model(x, training=False))
    scale = np.abs(logits["float32"]).max()
    assert np.abs(logits["bfloat16"] - logits["float32"]).max() < 0.05 * scale
    assert (logits["bfloat16"] != logits["float32"]).any()


def test_inference_follows_the_weights():
    model = networks.build(recipe("tiny", precision="float32"))
    forward = backend.compile_inference(model, lambda x: augment.standardise(x, 0.3, 0.3))
    images = np.random.RandomState(0).randint(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    before = forward(images)
    model.layers[-1].bias.assign(np.arange(10.0))
    np.testing.assert_allclose(
        forward(images) - before, np.tile(np.arange(10.0), (4, 1)), atol=1e-4
    )


@pytest.mark.skipif(backend.name() != "jax", reason="is what XLA fuses")
def test_gradient_does_not_depend_on_what_the_compiler_fuses():
    """A gradient by equality with a maximum is lost where XLA computes the values anew."""
    import jax

    changes = {"model.filters": (4, 8), "model.pool_after": (1, 2), "precision": "float32"}
    model = networks.build(recipe("quick", **changes, crop=0, cutout=0, flip=False))
    draw = np.random.RandomState(0)
    weights = [
        v.value + 0.1 * draw.standard_normal(v.shape).astype("float32")
        for v in model.trainable_variables
    ]
    others = [v.value for v in model.non_trainable_variables]
    x = draw.standard_normal((8, 28, 28, 1)).astype("float32")

    def energy(weights):
        return ops.mean(model.stateless_call(weights, others, x, training=True)[0] ** 2)

    lowered = jax.jit(jax.grad(energy)).lower(weights)
    passes = {"xla_disable_hlo_passes": "fusion,cpu-instruction-fusion"}
    fused, apart = lowered.compile(), lowered.compile(compiler_options=passes)
    assert fused.as_text() != apart.as_text()
    for one, other in zip(fused(weights), apart(weights), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 + 1e-4 * abs(other).max())


def test_the_haar_stem_is_the_patches_sums_and_differences_and_is_never_learnt():
    model = networks.build(recipe("quick", precision="float32"))
    x = np.random.RandomState(3).normal(size=(2, 6, 5, 1)).astype("float32")
    image = keras.layers.Input((6, 5, 1))
    stem = keras.Model(image, haar_stem(image))
    outputs = ops.convert_to_numpy(stem(x))
    assert outputs.shape == (2, 6, 5, 8)
    a, b = x[:, :-1, :-1, 0], x[:, :-1, 1:, 0]
    c, d = x[:, 1:, :-1, 0], x[:, 1:, 1:, 0]
    signed = [0.25 * (a + b + c + d), a - b + c - d, a + b - c - d, 2.5 * (a - b - c + d)]
    for i, expected in enumerate(signed):
        for sign, channel in ((1, i), (-1, i + 4)):
            np.testing.assert_allclose(
                outputs[:, :-1, :-1, channel], np.maximum(sign * expected, 0), atol=1e-5
            )
    fixed = model.get_layer("haar_stem")
    assert not fixed.trainable_variables
    assert [v.path for v in fixed.non_trainable_variables] == ["haar_stem/kernel"]


OPTIONS = '''
from dataclasses import dataclass
from typing import ClassVar

from fmnist.recipes.values import require, setting, settle


@dataclass(frozen=True)
class Linear:
    """A hidden layer without an activation."""

    batch_statistics: ClassVar[bool] = False
    halvings: ClassVar[int] = 0
    units: int = setting(3, "width of the hidden layer")

    def __post_init__(self):
        settle(self, "model.")
        require(self.units > 0, "model.units", "at least 1", self.units)

    def parameters(self, shape, classes):
        return (shape[0] * shape[1] + 1) * self.units + (self.units + 1) * classes

    def operations(self, shape, classes):
        return 2 * (shape[0] * shape[1] + classes) * self.units
'''
BUILDER = """
import keras
from keras import layers

from fmnist.engine.networks import augmentation, he_normal


def build(options, shape, classes, recipe):
    return keras.Sequential([
        layers.Input(shape, name="image"),
        *augmentation(recipe),
        layers.Flatten(name="flatten"),
        layers.Dense(options.units, kernel_initializer=he_normal(recipe, 0), name="dense"),
        layers.Dense(classes, dtype="float32", name="logits"),
    ], name="linear")
"""


def test_a_network_is_added_by_a_file_of_options_and_a_file_that_builds_it(tmp_path, monkeypatch):
    """And by the line that names it; then it is a recipe's, trained, scored, and read again."""
    for package, source in ((options, OPTIONS), (networks, BUILDER)):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "linear.py").write_text(source)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    linear = importlib.import_module("fmnist.recipes.networks.linear")
    monkeypatch.setitem(options.NETWORKS, "linear", linear.Linear)
    chosen = recipe(
        "quick", **{"model": "linear", "model.units": "5", "crop": 2}, epochs=2, optimizer="adamw"
    )
    assert Recipe.from_json(chosen.to_json()) == chosen
    with pytest.raises(UsageError, match=r"did you mean model\.units"):
        chosen.changed(**{"model.unit": 4})
    data = fmnist.load_data(write_idx_set(tmp_path / "data", train=200, test=40))
    run = fmnist.train(chosen, data, tmp_path / "run")
    assert run.env["parameters"] == chosen.options.parameters(data.shape, len(data.classes))
    score = fmnist.evaluate(run, data.test)
    assert score.n == 40


def test_every_network_has_its_options_and_its_builder():
    folders = [Path(package.__path__[0]) for package in (options, networks)]
    shared = {"__init__", "convolutions"}
    for folder in folders:
        assert {path.stem for path in folder.glob("*.py")} - shared == {*options.NETWORKS}
