"""How the network `compact` is built."""

import keras
from keras import layers

from fmnist.engine.layers import BatchNorm, GlobalMax, MaxPooling2D
from fmnist.engine.networks import Shape, augmentation, he_normal, numbered
from fmnist.recipes.networks.compact import Compact
from fmnist.recipes.recipe import Recipe


def build(options: Compact, shape: Shape, classes: int, recipe: Recipe) -> keras.Model:
    """Convolution, pooling, batch norm, ReLU, again and again, then the maximum over all places.

    He-normal kernels, a head of zeros. Pooling comes before the norm, which then works on a quarter
    of the values; a shortcut is added before the ReLU (He et al. 2015).
    """
    image = layers.Input(shape, name="image")
    x = image
    for layer in augmentation(recipe):
        x = layer(x)
    pools = 0
    for i, filters in enumerate(options.filters):
        y = layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            name=numbered("conv2d", i),
            kernel_initializer=he_normal(recipe, i),
        )(x)
        if i + 1 in options.pool_after:
            y = MaxPooling2D(2, name=numbered("max_pooling2d", pools))(y)
            pools += 1
        y = BatchNorm(name=numbered("batch_norm", i))(y)
        if i + 1 in options.shortcuts:
            y = layers.Add(name=numbered("add", options.shortcuts.index(i + 1)))([x, y])
        x = layers.ReLU(name=numbered("re_lu", i))(y)
    x = GlobalMax(name="global_max_pooling2d")(x)
    logits = layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="compact")
