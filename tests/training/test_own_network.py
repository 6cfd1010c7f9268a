"""Networks that a user wrote: trained, and everything later from the run folder alone."""

import io
import json
import shlex
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import own_net
import pytest
from keras import layers
from tiny import QUIET, StopAt, history, plain, small, weights_hash

from fmnist import files
from fmnist.engine import networks
from fmnist.engine.networks import own as own_networks
from fmnist.errors import UsageError
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import recipe
from fmnist.runs.reproduce import training_command
from fmnist.runs.run import Run
from fmnist.scoring.compare import compare, open_subject
from fmnist.scoring.evaluate import evaluate
from fmnist.scoring.verify import verify
from fmnist.signals import Interrupted
from fmnist.training import ensemble, memory_probe
from fmnist.training.own_network import from_file, with_network
from fmnist.training.task import Task
from fmnist.training.train import resume, train
from fmnist.training.trainer import Trainer

SHAPE = (28, 28, 1)
CHANGES = {"epochs": 2, "batch_size": 50, "crop": 2, "cutout": 6, "micro_batch": 30}


def trainable(**changes):
    """A recipe whose own network the tests replace."""
    return recipe("quick", **(CHANGES | changes))


@pytest.fixture(scope="module")
def own(data, shared):
    """A run of the network in a file that is gone by now."""

    def make(place):
        file = shutil.copy(own_net.__file__, place.with_suffix(".py"))
        train(trainable(), data, place, network=from_file(Path(file)), progress=QUIET)
        Path(file).unlink()

    return Run(shared("own run", make))


def test_it_is_scored_verified_compared_and_joined_from_its_folder(own, data, whole, tmp_path):
    run = Run(shutil.copytree(own.path, tmp_path / "run"))
    assert evaluate(run, data.test).n == len(data.test)
    assert verify(run, data).passed
    subjects = [open_subject([each], "val") for each in (own, whole)]
    assert compare(subjects)
    assert subjects[0].describe()["parameters"] == own.recipe.options.parameter_count
    joined = ensemble.ensemble([own, whole], tmp_path / "both", equal=True)
    logits = [each.load_logits("val")[0] for each in (own, whole)]
    evaluate(joined, data.val)
    found = joined.load_logits("val")[0]
    np.testing.assert_allclose(found, sum(logits) / 2, atol=1e-3, rtol=1e-3)


def test_it_teaches(own, data, tmp_path):
    run = train(small(epochs=1), data, tmp_path / "run", teachers=[own], progress=QUIET)
    assert run.env["teachers"][0]["run"] == str(own.path.resolve())


@pytest.mark.long_on_jax
@pytest.mark.engines
def test_it_resumes_bit_for_bit_also_from_its_recipe_alone(own, data, tmp_path):
    assert str(own.path / "recipe.json") in shlex.split(training_command(own))
    again = recipe(str(own.path / "recipe.json"))
    with pytest.raises(Interrupted):
        train(again, data, tmp_path / "run", progress=StopAt(8, 15))
    resumed = resume(tmp_path / "run", data, progress=QUIET)
    assert weights_hash(resumed) == weights_hash(own)
    assert history(resumed) == history(own)


def test_a_layer_whose_gradient_has_no_shape_is_trained_by_muon(data):
    """TimeDistributed's has none while the update is traced."""

    def rows(shape, classes):
        image = layers.Input(shape)
        steps = layers.Reshape((shape[0], shape[1]))(image)
        x = layers.TimeDistributed(layers.Dense(8, activation="relu"))(steps)
        return keras.Model(image, layers.Dense(classes)(layers.Flatten()(x)))

    chosen = with_network(small(precision="float32"), rows, data.shape, len(data.classes))
    assert chosen.optimizer == "muon"
    env = {"precision": "float32", "shape": data.shape, "classes": data.classes}
    trainer = Trainer(Task(chosen, env | {"mean": 0.3, "deviation": 0.3}, data.train), 50)
    before = {k: np.array(v) for k, v in trainer.weights().items()}
    for update in range(2):
        trainer.step(update)
    assert all((np.array(v) != before[k]).any() for k, v in trainer.weights().items())


def test_what_a_network_makes_no_use_of_is_said(capsys):
    """A scaling of what is standardised already, as in most tutorials, and weights."""

    def build(shape, classes):
        image = layers.Input(shape)
        x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
        return keras.Model(image, layers.Dense(classes)(x))

    model = build((12, 12, 1), 3)
    with_network(recipe("quick"), model, (12, 12, 1), 3)
    said = capsys.readouterr().err
    assert "begins with Rescaling, and images come standardised already" in said
    assert "its weights are not taken" not in said
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.zeros((4, 12, 12, 1)), np.zeros(4), verbose=0)
    with_network(recipe("quick"), model, (12, 12, 1), 3)
    assert "its weights are not taken" in capsys.readouterr().err


@pytest.mark.engines
def test_without_batch_statistics_micro_batches_change_nothing(data):
    """Dropout included: Keras' own would draw by a count of calls."""
    chosen = with_network(plain(precision="float32"), dropped, data.shape, len(data.classes))
    env = {"precision": "float32", "shape": data.shape, "classes": data.classes}
    env |= {"mean": 0.3, "deviation": 0.3}
    after = []
    for size in (64, 17):
        trainer = Trainer(Task(chosen, env, data.train), size)
        for update in range(3):
            trainer.step(update)
        after.append({k: np.array(v) for k, v in trainer.weights().items()})
    for name, values in after[0].items():
        np.testing.assert_allclose(values, after[1][name], atol=2e-6, err_msg=name)


def dropped(shape, classes):
    return keras.Sequential(
        [
            layers.Flatten(),
            layers.Dense(16, activation="gelu"),
            layers.Dropout(0.5),
            layers.LayerNormalization(),
            layers.Dropout(0.2),
            layers.Dense(classes),
        ]
    )


def test_a_seed_draws_its_weights_whatever_was_built_before(data):
    """By names that no other model moves, so that a run is found again in another process."""
    made = []
    for seed in (1, 1, 2):
        chosen = with_network(trainable(seed=seed), own_net.build, data.shape, 10)
        model = networks.build(chosen, data.shape)
        made.append({weight.path: weight.numpy() for weight in model.weights})
    for name, values in made[0].items():
        np.testing.assert_array_equal(values, made[1][name])
    assert any((values != made[2][name]).any() for name, values in made[0].items())


def test_a_probe_measures_its_memory(own, capsys, monkeypatch):
    asked = {"recipe": own.recipe.to_json(), "env": dict(own.env), "micro_batch": 4}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asked)))
    memory_probe.main()
    assert int(capsys.readouterr().out) > 2**20


@keras.saving.register_keras_serializable("mine")
class Doubled(layers.Layer):
    def call(self, x):
        return 2 * x


class Closed(layers.Layer):
    """Its argument has no JSON."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


class Subclass(keras.Model):
    def call(self, x):
        return x


@keras.saving.register_keras_serializable("mine")
def doubled(x):
    return 2 * x


def between(*middle):
    """A network with other layers before its head."""
    return lambda shape, classes: keras.Sequential(
        [keras.Input(shape), *middle, layers.Flatten(), layers.Dense(classes)]
    )


def two_inputs(shape, classes):
    both = [keras.Input(shape), keras.Input(shape)]
    return keras.Model(both, layers.Dense(classes)(layers.Flatten()(both[0] + both[1])))


def two_outputs(shape, classes):
    image = keras.Input(shape)
    x = layers.Flatten()(image)
    return keras.Model(image, [layers.Dense(classes)(x), layers.Dense(classes)(x)])


def ends(*last):
    return lambda shape, classes: keras.Sequential([keras.Input(shape), layers.Flatten(), *last])


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (between(Doubled()), "found mine>Doubled"),
        (between(Closed(abs)), "Closed"),
        (between(layers.Lambda(abs)), "found Lambda"),
        (between(layers.Conv2D(2, 1, activation=doubled)), "mine>doubled"),
        (between(layers.Conv2D(2, 1, activation=lambda x: x)), "Keras"),
        (between(layers.Conv2D(2, 1, kernel_initializer=lambda s, dtype: 0.5)), "__lambda__"),
        (between(layers.SpatialDropout2D(0.5)), "draws at random .* received SpatialDropout2D"),
        (between(layers.Conv2D(2, 1, name="channel")), "other names than channel"),
        (between(layers.RandomFlip()), "draws at random .* received RandomFlip"),
        (
            between(layers.Reshape((28, 28)), layers.LSTM(2, dropout=0.5)),
            "LSTM: expected dropout=0",
        ),
        (between(layers.Normalization()), "learns by adapt.*received Normalization"),
        (Subclass(), "functional or sequential model, received Subclass"),
        (lambda shape, classes: "model", "expected a keras.Model, received str"),
        (two_inputs, "expected one input, received 2"),
        (two_outputs, "expected one output, received 2"),
        (lambda shape, n: own_net.build((32, 32, 3), n), r"input shape \(28, 28, 1\).*32, 32, 3"),
        (lambda shape, n: own_net.build(shape, 7), r"output shape \(10,\).*\(7,\)"),
        (lambda s, n: keras.Sequential([keras.Input(s), layers.Dense(n)]), "output shape"),
        (ends(layers.Dense(10, activation="softmax")), "logits, received .*softmax"),
        (ends(layers.Dense(10), layers.Softmax()), "logits, received .*softmax"),
        (ends(layers.Dense(10), layers.Activation("sigmoid")), "logits, received .*sigmoid"),
        (ends(keras.Sequential([layers.Dense(10, activation="softmax")])), "softmax"),
        (between(layers.Conv2D(2, 1, name="image")), "image"),
    ],
)
def test_what_is_no_network_of_keras_own_layers_is_one_line(network, words):
    def made():
        chosen = with_network(trainable(micro_batch=0), network, SHAPE, 10)
        networks.build(chosen, SHAPE, 10)  # a name of one of our layers is seen here

    with pytest.raises(UsageError, match=words) as refused:
        made()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("build = 3", r"expected a function build\(shape, classes\), found none"),
        ("def build(shape:", r"net\.py, line 1: .*SyntaxError"),
        ("import keras\n1 / 0", r"net\.py, line 2: .*ZeroDivisionError: division by zero"),
        ("def build(shape, classes):\n    raise ValueError('no\\nmore')", r"line 2: .*: no$"),
        ("def build(shape):\n    pass", r"net\.py: .*TypeError: build\(\) takes 1"),
        ("def build(shape, classes):\n    pass", "expected a keras.Model, received NoneType"),
    ],
)
def test_a_file_that_builds_no_network_is_one_line(source, words, tmp_path):
    file = tmp_path / "net.py"
    file.write_text(source)
    with pytest.raises(UsageError, match=words):
        with_network(trainable(), from_file(file), SHAPE, 10)


def test_a_strangers_architecture_makes_nothing_but_keras_own_layers(own):
    """Of a recipe.json: nothing is imported, run or allocated that the counts do not hold."""
    written = files.read_json(own.path / "recipe.json")
    layer = next(
        each
        for each in written["model"]["architecture"]["config"]["layers"]
        if each["class_name"] == "Conv2D"
    )
    kept = dict(layer)
    for changes, words in (
        ({"class_name": "Lambda"}, "found Lambda"),
        ({"module": "os", "class_name": "system"}, "found system"),
        ({"module": "layers"}, "found Conv2D"),  # a file of that name in the working directory
        ({"module": "keras.src.utils.file_utils", "class_name": "File"}, "found File"),
        ({"module": "keras.src.ops.nn", "class_name": "os"}, "found os"),
        ({"class_name": "TFSMLayer"}, "found TFSMLayer"),
        ({"class_name": "StringLookup"}, "received StringLookup"),
        ({"registered_name": "fmnist>BatchNorm"}, "found fmnist>BatchNorm"),
        ({"config": kept["config"] | {"kernel_size": [10**5, 10**5]}}, "expected .* parameters"),
        ({"config": {}}, "Keras says"),
    ):
        layer.clear()
        layer.update(kept | changes)
        with pytest.raises(UsageError, match=words):
            networks.build(Recipe.from_json(written), SHAPE, 10)
    layer.update(kept)
    deep: dict = {}
    for _ in range(5000):
        deep = {"config": deep}
    for architecture in (None, "", "{", "[]", [], {}, {"class_name": "Functional"}, deep):
        written["model"]["architecture"], written["micro_batch"] = architecture, 0
        with pytest.raises(UsageError, match="model own: expected"):
            networks.build(Recipe.from_json(written), SHAPE, 10)


def test_operations_of_layers_that_fmnist_has_no_network_of():
    """A kernel at each place of the output, or at each step; attention multiplies twice more."""
    image = keras.Input((8, 8, 4))
    for layer, expected in (
        (layers.DepthwiseConv2D(3, padding="same"), 2 * 9 * 4 * 64),
        (layers.SeparableConv2D(6, 3), 2 * (9 * 4 + 4 * 6) * 36),
        (layers.Conv2DTranspose(6, 3, strides=2), 2 * 9 * 4 * 6 * 64),
        (layers.Conv2D(6, 3, strides=2, groups=2), 2 * 9 * 2 * 6 * 9),
        (keras.Sequential([layers.Flatten(), layers.Dense(3)]), 2 * 256 * 3),
        (keras.Model(image, layers.Dense(3)(image)), 2 * 64 * 4 * 3),
    ):
        assert own_networks.operations(keras.Model(image, layer(image))) == expected
    words = keras.Input((5, 4))
    for layer, expected in (
        (layers.LSTM(3), 2 * 5 * (4 + 3) * 12),
        (layers.Bidirectional(layers.GRU(3)), 2 * 2 * 5 * (4 + 3) * 9),
    ):
        assert own_networks.operations(keras.Model(words, layer(words))) == expected
    attention = layers.MultiHeadAttention(2, 3)(words, words)
    kernels = 4 * 4 * 6
    assert own_networks.operations(keras.Model(words, attention)) == 2 * 5 * kernels + 4 * 5 * 5 * 6
    dense = layers.Dense(4)
    assert own_networks.operations(keras.Model(words, dense(dense(words)))) == 2 * (2 * 5 * 16)
    block = keras.Sequential([keras.Input((5, 4)), layers.Dense(4)])
    assert own_networks.operations(keras.Model(words, block(block(words)))) == 2 * (2 * 5 * 16)
