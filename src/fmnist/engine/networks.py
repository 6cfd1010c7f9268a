"""The networks: MODELS maps a name to build(options, shape, classes, recipe) -> keras.Model.

Inputs are standardised float32 images (n, height, width, 1), outputs float32 logits (n, classes).
Every model starts with the augmentation layers that its recipe asks for, which are the identity
outside training. Options are the dataclasses of `recipes.networks`, checked there.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from fmnist.engine import augment, precision
from fmnist.engine.layers import BatchNorm, GlobalMax, MaxPooling2D
from fmnist.recipes.networks import Compact, Plain, Wide
from fmnist.recipes.recipe import Ensemble, Recipe

Shape = tuple[int, int, int]


def augmentation(recipe: Recipe) -> list[layers.Layer]:
    """The layers that change images in training, as the recipe asks; of one seed, alike."""
    chain = [
        augment.RandomCrop(recipe.crop, name="random_crop"),
        augment.RandomFlip(recipe.flip, name="random_flip"),
    ]
    if recipe.cutout:
        chain.append(augment.RandomCutout(recipe.cutout, name="random_cutout"))
    return chain


def _numbered(kind: str, index: int) -> str:
    """Keras' way to name the layers of a kind: conv2d, conv2d_1, …"""
    return f"{kind}_{index}" if index else kind


def _seed_of(recipe: Recipe, layer: int) -> int:
    """The initialiser's seed of the model's layer number `layer`."""
    return (recipe.seed * 1000 + layer) % 2**31


def plain(options: Plain, shape: Shape, classes: int, recipe: Recipe) -> keras.Model:
    """The reference network and its kin: see `recipes.Plain`. He-normal kernels, a zero head."""
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
                name=_numbered("conv2d", i),
                kernel_initializer=keras.initializers.HeNormal(seed=_seed_of(recipe, i)),
            )
        )
        if i + 1 in options.pool_after:
            model.add(MaxPooling2D(2, name=_numbered("max_pooling2d", pools)))
            pools += 1
    model.add(layers.Flatten(name="flatten"))
    if options.dense_units:
        model.add(
            layers.Dense(
                options.dense_units,
                activation="relu",
                name="dense",
                kernel_initializer=keras.initializers.HeNormal(seed=_seed_of(recipe, 900)),
            )
        )
    model.add(augment.Dropout(options.dropout, name="dropout"))
    head = _numbered("dense", 1 if options.dense_units else 0)
    model.add(layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name=head))
    return model


# What brings the 2×2 patches' sum, and their differences across, down and both, to about the same
# size: 1 / the standard deviation along each, rounded, over the standardised training images
# of Fashion-MNIST (0.52, 1.88, 2.39 and 5.05 along the patches' eigenvectors).
HAAR_SCALES = (0.5, 2.0, 2.0, 5.0)


def haar_stem(x: Any) -> Any:
    """A convolution that is not learnt: 2×2 Haar filters, each with both signs, then ReLU.

    They are about the principal components of an image's patches, so that the network's first
    layer is right from the first update on, as the whitening layer of airbench is (Jordan 2024),
    and without a look at the data. What is fixed takes no backward pass at full resolution.
    """
    patterns = ([[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]])
    scaled = [np.array(p) * s / 2 for p, s in zip(patterns, HAAR_SCALES, strict=True)]
    kernel = np.stack(scaled + [-p for p in scaled], axis=-1)[:, :, None, :]
    x = layers.Conv2D(
        kernel.shape[-1],
        2,
        padding="same",
        use_bias=False,
        trainable=False,
        name="haar_stem",
        kernel_initializer=keras.initializers.Constant(kernel.tolist()),
    )(x)
    return layers.ReLU(name="haar_stem_relu")(x)


def compact(options: Compact, shape: Shape, classes: int, recipe: Recipe) -> keras.Model:
    """Convolution, pooling, batch norm, ReLU, again and again, then the maximum over all places.

    See `recipes.Compact`. He-normal kernels, a head of zeros. Pooling comes before the norm, which
    then works on a quarter of the values; a shortcut is added before the ReLU (He et al. 2015).
    """
    image = layers.Input(shape, name="image")
    x = image
    for layer in augmentation(recipe):
        x = layer(x)
    if options.stem == "haar":
        x = haar_stem(x)
    pools = 0
    for i, filters in enumerate(options.filters):
        y = layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,
            name=_numbered("conv2d", i),
            kernel_initializer=keras.initializers.HeNormal(seed=_seed_of(recipe, i)),
        )(x)
        if i + 1 in options.pool_after:
            y = MaxPooling2D(2, name=_numbered("max_pooling2d", pools))(y)
            pools += 1
        y = BatchNorm(name=_numbered("batch_norm", i))(y)
        if i + 1 in options.shortcuts:
            y = layers.Add(name=_numbered("add", options.shortcuts.index(i + 1)))([x, y])
        x = layers.ReLU(name=_numbered("re_lu", i))(y)
    x = GlobalMax(name="global_max_pooling2d")(x)
    logits = layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="compact")


def wide(options: Wide, shape: Shape, classes: int, recipe: Recipe) -> keras.Model:
    """Blocks of norm, ReLU and convolution, twice, added to what went in; then the mean.

    See `recipes.Wide`. Where a block changes the number of channels, what is added to is a 1×1
    convolution of its first ReLU. He-normal kernels, a head of zeros.
    """
    image = layers.Input(shape, name="image")
    x = image
    for layer in augmentation(recipe):
        x = layer(x)
    count: dict[str, int] = {}

    def name(kind: str) -> str:
        count[kind] = count.get(kind, -1) + 1
        return _numbered(kind, count[kind])

    def convolution(x: Any, filters: int, size: int, stride: int = 1) -> Any:
        made = name("conv2d")
        seed = _seed_of(recipe, count["conv2d"])
        return layers.Conv2D(
            filters,
            size,
            stride,
            padding="same",
            use_bias=False,
            name=made,
            kernel_initializer=keras.initializers.HeNormal(seed=seed),
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


def ensemble(options: Ensemble, shape: Shape, classes: int, recipe: Recipe) -> keras.Model:
    """The weighted sum of the networks' logits, each network in its own precision."""
    image = layers.Input(shape, name="image")
    total: Any = 0
    for i, (member, weight) in enumerate(zip(options.members, options.weights, strict=True)):
        name = f"member_{i}"
        with keras.name_scope(name):  # so that no two weights have one path
            network = build(member, shape, classes)
        network = keras.Model(network.inputs, network.outputs[0], name=name)
        total = total + weight * network(image)
    return keras.Model(image, total, name="ensemble")


MODELS: dict[str, Callable[[Any, Shape, int, Recipe], keras.Model]] = {
    "plain": plain,
    "compact": compact,
    "wide": wide,
    "ensemble": ensemble,
}


def build(recipe: Recipe, shape: Shape = (28, 28, 1), classes: int = 10) -> keras.Model:
    """The recipe's model for images of `shape` (height, width, 1), weights drawn from its seed.

    Raises UsageError where the model cannot take such images.
    """
    recipe.check_shape(shape, classes)
    with precision.policy(precision.resolve_precision(recipe.precision)):
        return MODELS[recipe.model](recipe.options, shape, classes, recipe)
