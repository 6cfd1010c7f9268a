"""The networks: each in a file whose `build(options, shape, classes, recipe)` gives a keras.Model.

Inputs are standardised float32 images (n, height, width, 1), outputs float32 logits (n, classes).
Every network starts with the augmentation layers that its recipe asks for, which are the identity
outside training. The model and its layers are named, since weights are stored by name. The options
are the dataclass in the file of the same name in `recipes.networks`, and checked there.
"""

from importlib import import_module

import keras
from keras import layers

from fmnist.engine import augment, precision
from fmnist.recipes.recipe import Recipe

Shape = tuple[int, int, int]


def build(recipe: Recipe, shape: Shape = (28, 28, 1), classes: int = 10) -> keras.Model:
    """The recipe's model for images of `shape` (height, width, 1), weights drawn from its seed.

    Raises UsageError for images of a shape that the model cannot take.
    """
    recipe.check_shape(shape, classes)
    network = import_module(f"{__name__}.{recipe.model}")
    with precision.policy(precision.resolve_precision(recipe.precision)):
        return network.build(recipe.options, shape, classes, recipe)


def augmentation(recipe: Recipe) -> list[layers.Layer]:
    """The recipe's augmentation layers; with one seed they make equal draws."""
    chain = [
        augment.RandomCrop(recipe.crop, name="random_crop"),
        augment.RandomFlip(recipe.flip, name="random_flip"),
    ]
    if recipe.cutout:
        chain.append(augment.RandomCutout(recipe.cutout, name="random_cutout"))
    return chain


def numbered(kind: str, index: int) -> str:
    """Keras' way to name the layers of a kind: conv2d, conv2d_1, …"""
    return f"{kind}_{index}" if index else kind


def he_normal(recipe: Recipe, layer: int) -> keras.initializers.HeNormal:
    """He et al.'s initialiser for the kernel of the network's layer number `layer`."""
    return keras.initializers.HeNormal(seed=(recipe.seed * 1000 + layer) % 2**31)
