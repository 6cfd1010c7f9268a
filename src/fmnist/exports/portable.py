"""Builds a trained network from Keras' own layers, for raw uint8 images: the base of each export.

Any program with Keras can load it without fmnist. Augmentation and dropout are left out. Batch
normalisation is folded into a convolution before it. The network contains the normalisation of the
pixels and the temperature.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from fmnist.engine import augment, backend, keras, networks, precision
from fmnist.engine.layers import BatchNorm, GlobalMax, MaxPooling2D
from fmnist.engine.networks import own
from fmnist.errors import UsageError
from fmnist.recipes.networks.ensemble import Ensemble
from fmnist.recipes.networks.own import Own
from fmnist.recipes.recipe import Recipe

IDENTITIES = (augment.RandomCrop, augment.RandomFlip, augment.RandomCutout, augment.Dropout)
KERAS_OWN = {GlobalMax: keras.layers.GlobalMaxPooling2D, MaxPooling2D: keras.layers.MaxPooling2D}


def build(
    model: Any,
    recipe: Recipe,
    about: Mapping[str, Any],
    temperature: float = 1.0,
    *,
    guarded: bool = False,
) -> keras.Model:
    """A Keras model from uint8 (n, height, width) to a dict of two float32 (n, classes).

    Args:
        model: the recipe's, as `scoring.evaluate.load_model` returns it.
        recipe: says how an ensemble's members are weighted.
        about: the mean and deviation of pixel / 255 to take out; the shape (height, width, 1).
        temperature: what the logits are divided by before the softmax.
        guarded: take (n, height, width, 1), and answer an image that does not hold whole numbers of
            0 to 255 by infinite logits: Keras itself would cut 0.5 off to 0 without a word.

    `logits` are those of one view, `probabilities` softmax(logits / temperature). It computes in
    float32, whatever the network was trained in.
    """
    shape, deviation = tuple(about["shape"]), about["deviation"]
    with precision.policy("float32"):
        if guarded:
            images = x = keras.layers.Input(shape, dtype="float32", name="images")
        else:
            images = keras.layers.Input(shape[:2], dtype="uint8", name="images")
            x = keras.layers.Reshape(shape, name="channel")(images)
        x = keras.layers.Rescaling(
            1 / (255 * deviation), -about["mean"] / deviation, name="standard"
        )(x)
        if isinstance(recipe.options, Ensemble):
            outputs = []
            for i, member in enumerate(recipe.options.members):
                part, weight = model.get_layer(f"member_{i}"), recipe.options.weights[i]
                if isinstance(member.options, Own):
                    scaled = keras.layers.Rescaling(weight, name=f"member_{i}_weight")
                    outputs.append(scaled(own.copy_of(member.options, part, f"member_{i}")(x)))
                else:
                    network = networks.build(member, shape, len(about["classes"]))
                    network.set_weights(part.get_weights())
                    outputs.append(_copy(network, x, f"member_{i}_", weight))
            logits = keras.layers.Add(name="sum" if guarded else "logits")(outputs)
        elif isinstance(recipe.options, Own):
            head = "head" if guarded else "logits"
            logits = own.copy_of(recipe.options, model, "own", head=head).call(x)
        else:
            logits = _copy(model, x, head="head" if guarded else "logits")
        if guarded:
            logits = keras.layers.Add(name="logits")([logits, _infinite_unless_bytes(images)])
        softened = keras.layers.Rescaling(1 / temperature, name="temperature")(logits)
        chance = keras.layers.Softmax(name="probabilities")(softened)
    try:
        return keras.Model(images, {"logits": logits, "probabilities": chance}, name="fmnist")
    except ValueError as error:  # a user's layer has the name of one of these
        raise UsageError(f"model own: Keras says: {own.first_line(error)}") from None


def _infinite_unless_bytes(images: Any) -> Any:
    """0 for each image of whole numbers of 0 to 255, infinity for others: (n, 1)."""
    whole = keras.layers.Activation("linear", dtype="uint8", name="bytes")(images)  # cuts off
    whole = keras.layers.Rescaling(1.0, name="whole")(whole)
    rest = keras.layers.Subtract(name="rest")([images, whole])
    square = keras.layers.Multiply(name="square")([rest, rest])
    most = keras.layers.GlobalMaxPooling2D(name="most")(square)
    # The least square is 1e-5 or so. No product of constants: XLA would fold them to infinity.
    large = keras.layers.Rescaling(1e8, name="large")(most)
    power = keras.layers.Activation("exponential", name="power")(large)
    return keras.layers.Rescaling(1.0, -1.0, name="infinite")(power)


def _copy(
    model: keras.Model, x: Any, prefix: str = "", weight: float = 1.0, head: str = "logits"
) -> Any:
    """The network applied to `x`, layer by layer, its logits times `weight`."""
    made: dict[int, Any] = {}
    # What a norm can be folded into: the convolution that a tensor comes from, and whether it was
    # pooled since, where nothing else takes the tensor.
    foldable: dict[int, tuple[Any, bool]] = {}
    takers = Counter(
        id(tensor) for layer in model.layers for tensor in keras.tree.flatten(layer.input)
    )
    y = x
    copy: Any = None
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        given = layer.input if isinstance(layer.input, list) else [layer.input]
        # A sequence's layers were called once for each that was added, so it tells by its order.
        chained = isinstance(model, keras.Sequential) or not made
        inputs = [y] if chained else [made[id(tensor)] for tensor in given]
        y = inputs[0]
        source = foldable.get(id(given[0])) if takers[id(given[0])] == 1 else None
        if isinstance(layer, BatchNorm):
            scale = _array(layer.gamma) / np.sqrt(_array(layer.variance) + layer.epsilon)
            offset = _array(layer.beta) - _array(layer.mean) * scale
            # Of values times less than 0 the highest is another.
            if source is None or (source[1] and scale.min() < 0):
                copy = keras.layers.BatchNormalization(
                    epsilon=layer.epsilon, name=prefix + layer.name
                )
                y = copy(y)
                copy.set_weights(
                    [_array(w) for w in (layer.gamma, layer.beta, layer.mean, layer.variance)]
                )
            else:
                kernel, bias = source[0].get_weights()
                source[0].set_weights([kernel * scale, bias * scale + offset])
        elif not isinstance(layer, IDENTITIES):
            name = head if layer is model.layers[-1] else layer.name
            settings = layer.get_config() | {"dtype": "float32", "name": prefix + name}
            if isinstance(layer, keras.layers.Conv2D):
                settings["use_bias"] = True  # room for a norm's offset
            copy = KERAS_OWN.get(type(layer), type(layer))(**settings)
            y = copy(inputs if len(inputs) > 1 else inputs[0])
            if layer.weights:
                kernel = _array(layer.kernel)
                bias = _array(layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1])
                copy.set_weights([kernel, bias])
            if isinstance(layer, keras.layers.Conv2D):
                foldable[id(layer.output)] = copy, False
            elif isinstance(layer, keras.layers.MaxPooling2D) and source:
                foldable[id(layer.output)] = source[0], True
        made[id(layer.output)] = y
    copy.set_weights([array * weight for array in copy.get_weights()])  # the head's
    return y


def _array(variable: Any) -> Any:
    return np.asarray(backend.view(variable), np.float32)
