"""How the network `wide` is built."""

from typing import Any

import keras
from keras import layers

from fmnist.engine.layers import BatchNorm
from fmnist.engine.networks import Shape, augmentation, he_normal, numbered
from fmnist.recipes.networks.wide import Wide
from fmnist.recipes.recipe import Recipe


def build(options: Wide, shape: Shape, classes: int, recipe: Recipe) -> keras.Model:
    """Blocks of norm, ReLU and convolution, twice, added to what went in; then the mean.

    Where a block changes the number of channels, what is added to is a 1×1 convolution of its first
    ReLU. He-normal kernels, a head of zeros.
    """
    image = layers.Input(shape, name="image")
    x = image
    for layer in augmentation(recipe):
        x = layer(x)
    count: dict[str, int] = {}

    def name(kind: str) -> str:
        count[kind] = count.get(kind, -1) + 1
        return numbered(kind, count[kind])

    def convolution(x: Any, filters: int, size: int, stride: int = 1) -> Any:
        layer = name("conv2d")
        return layers.Conv2D(
            filters,
            size,
            stride,
            padding="same",
            use_bias=False,
            name=layer,
            kernel_initializer=he_normal(recipe, count["conv2d"]),
        )(x)

    def active(x: Any) -> Any:
        return layers.ReLU(name=name("re_lu"))(BatchNorm(name=name("batch_norm"))(x))

    x = convolution(x, 16, 3)
    for before, after, stride in options.blocks:
        y = active(x)
        if before != after:
            x = convolution(y, after, 1, stride)
        y = convolution(y, after, 3, stride)
        y = convolution(active(y), after, 3)
        x = layers.Add(name=name("add"))([x, y])
    x = layers.GlobalAveragePooling2D(name="global_average_pooling2d")(active(x))
    logits = layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="wide")
