"""Networks that a user wrote, as files: each layer as Keras computes it, or refused by its name."""

import keras
import numpy as np
import own_net
import pytest
from keras import layers, ops

from fmnist.engine import networks
from fmnist.errors import UsageError
from fmnist.exports import litert, onnx_graph, portable
from fmnist.recipes.networks.ensemble import Ensemble
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import recipe
from fmnist.training.own_network import with_network

SHAPE = (13, 12, 1)
ABOUT = {"mean": 0.4, "deviation": 0.3, "shape": SHAPE, "classes": list("abc")}
IMAGES = np.random.RandomState(0).randint(0, 256, (5, *SHAPE[:2]), dtype=np.uint8)


def exported(network):
    """A recipe of the network, and its portable model with weights and statistics at random."""
    made = with_network(recipe("quick", precision="float32"), network, SHAPE, 3)
    return made, portable.build(trained(made), made, ABOUT, 1.5)


def trained(made):
    model, random = networks.build(made, SHAPE, 3), np.random.RandomState(1)
    model.set_weights([random.uniform(0.1, 1, w.shape) - 0.4 * (w.ndim > 1) for w in model.weights])
    return model


def check(model, tmp_path):
    """That onnxruntime gives what Keras does, for one image and for several."""
    onnx_graph.save(model, tmp_path / "model.onnx", "float32", IMAGES)
    run = onnx_graph.load(tmp_path / "model.onnx")
    expected = {k: np.asarray(v) for k, v in model(IMAGES, training=False).items()}
    scale = np.abs(expected["logits"]).max()
    for few in (IMAGES, IMAGES[:1]):
        found = run(few)
        logits = expected["logits"][: len(few)]
        np.testing.assert_allclose(found["logits"] / scale, logits / scale, atol=1e-5)


def in_a_row(*middle):
    return lambda shape, classes: keras.Sequential(
        [keras.Input(shape), *middle, layers.Flatten(), layers.Dense(classes)]
    )


def joined(shape, classes):
    """Branches, a gate for each channel, a layer that is called twice, and Keras' functions."""
    image = keras.Input(shape)
    x = layers.Conv2D(4, 3, padding="same", activation="tanh")(image)
    gate = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 4))(gate)])
    twice = layers.Conv2D(4, 3, padding="same", use_bias=False)
    y = ops.relu(twice(twice(x)) - x)
    x = layers.Concatenate()([x, y, layers.Average()([x, y]), layers.Maximum()([x, y])])
    x = layers.Add()([x, x, x])
    x = layers.Flatten()(x)
    x = layers.BatchNormalization()(x)
    return keras.Model(image, layers.Dense(classes, use_bias=False)(layers.Dropout(0.1)(x)))


ROWS = {
    "valid": [layers.Conv2D(3, (2, 3), strides=2, activation="silu")],
    "dilated": [layers.Conv2D(4, 3, dilation_rate=2, padding="same", activation="gelu")],
    "groups": [layers.Conv2D(4, 1), layers.Conv2D(6, 3, groups=2, activation="leaky_relu")],
    "depthwise": [layers.DepthwiseConv2D(3, depth_multiplier=3, strides=2, padding="same")],
    "separable": [layers.SeparableConv2D(5, 3, padding="same", activation="relu6")],
    "pools": [layers.AveragePooling2D(3, 2, padding="same"), layers.MaxPooling2D((2, 3))],
    "padded": [layers.ZeroPadding2D(((1, 2), (0, 3))), layers.Conv2D(2, 3), layers.ReLU(6.0)],
    "norm": [layers.Conv2D(3, 2), layers.BatchNormalization(center=False), layers.ELU()],
    "mean": [layers.Conv2D(3, 2), layers.GlobalAveragePooling2D(keepdims=True)],
    "scaled": [layers.Rescaling(0.5, 0.1), layers.Activation("hard_sigmoid")],
    "reshaped": [layers.Reshape((6, 13, 2)), layers.Conv2D(3, 3), layers.LeakyReLU()],
}


@pytest.mark.parametrize(
    "network",
    [own_net.build, joined, *(in_a_row(*row) for row in ROWS.values())],
    ids=["own", "joined", *ROWS],
)
def test_onnxruntime_computes_each_layer_as_keras_does(network, tmp_path):
    made, model = exported(network)
    plain = trained(made)
    images = (IMAGES[..., None] / 255 - ABOUT["mean"]) / ABOUT["deviation"]
    logits = np.asarray(plain(images.astype("float32"), training=False))
    np.testing.assert_allclose(model(IMAGES)["logits"], logits, rtol=1e-3, atol=1e-3)
    check(model, tmp_path)


def test_an_ensemble_of_them_is_one_file(tmp_path):
    members = [with_network(recipe("quick"), n, SHAPE, 3) for n in (own_net.build, joined)]
    members = tuple(m.changed(precision="float32") for m in (*members, recipe("tiny")))
    both = Recipe(name="ensemble", model="ensemble", options=Ensemble(members, (0.5, 0.2, 0.3)))
    model = trained(both)
    made = portable.build(model, both, ABOUT)
    images = (IMAGES[..., None] / 255 - ABOUT["mean"]) / ABOUT["deviation"]
    logits = np.asarray(model(images.astype("float32"), training=False))
    np.testing.assert_allclose(made(IMAGES)["logits"], logits, rtol=1e-3, atol=1e-3)
    check(made, tmp_path)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([layers.Reshape((13, 12)), layers.LSTM(3, name="reader")], "layer reshape.*2 axes"),
        ([layers.LayerNormalization(name="norm")], "norm is a LayerNormalization"),
        ([layers.Conv2DTranspose(2, 3, name="up")], "up is a Conv2DTranspose"),
        ([layers.Dense(4, name="mix")], "mix is a Dense of images"),
        ([layers.Conv2D(2, 1, activation="mish", name="odd")], "odd is .*activation .mish"),
        ([layers.Rescaling([2.0], name="each")], "each scales each channel"),
        ([layers.BatchNormalization(axis=1, name="rows")], "rows is .*another axis"),
        ([layers.ReLU(negative_slope=0.1, name="bent")], "bent is a ReLU with a slope"),
    ],
)
def test_a_layer_that_onnx_has_no_operator_for_is_named(row, words, tmp_path):
    _, model = exported(in_a_row(*row))
    with pytest.raises(UsageError, match=rf"onnx: .*{words}"):
        onnx_graph.save(model, tmp_path / "model.onnx", "float32", IMAGES)


def test_a_layer_of_a_name_that_the_file_needs_is_one_line():
    with pytest.raises(UsageError, match="standard"):
        exported(in_a_row(layers.Conv2D(2, 1, name="standard")))


def test_what_litert_does_not_take_is_said_in_a_line(tmp_path):
    rows = in_a_row(layers.Reshape(SHAPE[:2]), layers.LSTM(2))
    with pytest.raises(UsageError, match=r"converter does not take .*; use --format keras") as said:
        litert.save(exported(rows)[1], tmp_path / "model.tflite", "float32", IMAGES)
    assert "\n" not in str(said.value)
    assert not (tmp_path / "model.tflite").exists()
