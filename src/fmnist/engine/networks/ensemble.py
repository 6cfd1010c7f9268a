"""How the network `ensemble` is built."""

from typing import Any

import keras
from keras import layers

from fmnist.engine import networks
from fmnist.engine.networks import Shape
from fmnist.recipes.networks.ensemble import Ensemble
from fmnist.recipes.recipe import Recipe


def build(options: Ensemble, shape: Shape, classes: int, recipe: Recipe) -> keras.Model:
    """The weighted sum of the networks' logits, each network in its own precision."""
    image = layers.Input(shape, name="image")
    total: Any = 0
    for i, (member, weight) in enumerate(zip(options.members, options.weights, strict=True)):
        name = f"member_{i}"
        with keras.name_scope(name):  # so that no two weights have one path
            network = networks.build(member, shape, classes)
        network = keras.Model(network.inputs, network.outputs[0], name=name)
        total = total + weight * network(image)
    return keras.Model(image, total, name="ensemble")
