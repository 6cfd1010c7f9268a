"""How the network `plain` is built."""

import keras
from keras import layers

from fmnist.engine import augment
from fmnist.engine.layers import MaxPooling2D
from fmnist.engine.networks import Shape, augmentation, he_normal, numbered
from fmnist.recipes.networks.plain import Plain
from fmnist.recipes.recipe import Recipe


def build(options: Plain, shape: Shape, classes: int, recipe: Recipe) -> keras.Model:
    """The reference network and its kin. He-normal kernels, a head of zeros."""
    model = keras.Sequential(
        [layers.Input(shape, name="image"), *augmentation(recipe)], name="plain"
    )
    pools = 0
    for i, filters in enumerate(options.filters):
        model.add(
            layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                name=numbered("conv2d", i),
                kernel_initializer=he_normal(recipe, i),
            )
        )
        if i + 1 in options.pool_after:
            model.add(MaxPooling2D(2, name=numbered("max_pooling2d", pools)))
            pools += 1
    model.add(layers.Flatten(name="flatten"))
    if options.dense_units:
        model.add(
            layers.Dense(
                options.dense_units,
                activation="relu",
                name="dense",
                kernel_initializer=he_normal(recipe, 900),
            )
        )
    model.add(augment.Dropout(options.dropout, name="dropout"))
    head = numbered("dense", 1 if options.dense_units else 0)
    model.add(layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name=head))
    return model
