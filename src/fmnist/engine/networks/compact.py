"""How the network `compact` is built."""

from typing import Any

import keras
import numpy as np
from keras import layers

from fmnist.engine.layers import BatchNorm, GlobalMax, MaxPooling2D
from fmnist.engine.networks import Shape, augmentation, he_normal, numbered
from fmnist.recipes.networks.compact import Compact
from fmnist.recipes.recipe import Recipe

# They bring the 2×2 patches' sum and their differences across, down and both to about the same
# size: 1 / the standard deviation along each, rounded, over the standardised training images of
# Fashion-MNIST (0.52, 1.88, 2.39 and 5.05 along the patches' eigenvectors).
HAAR_SCALES = (0.5, 2.0, 2.0, 5.0)


def haar_stem(x: Any) -> Any:
    """A convolution that is not learnt: 2×2 Haar filters, each with both signs, then ReLU.

    They are about the principal components of an image's patches, so the first layer is right from
    the first update on, as the whitening layer of airbench is (Jordan 2024), and no data is looked
    at. What is fixed needs no backward pass at full resolution.
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


def build(options: Compact, shape: Shape, classes: int, recipe: Recipe) -> keras.Model:
    """Convolution, pooling, batch norm, ReLU, again and again, then the maximum over all places.

    He-normal kernels, a head of zeros. Pooling comes before the norm, which then works on a quarter
    of the values; a shortcut is added before the ReLU (He et al. 2015).
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
