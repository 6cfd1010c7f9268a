"""A network as a user writes one: every kind of layer that training looks at."""

import keras
from keras import layers


def build(shape, classes):
    image = keras.Input(shape)
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.Activation("relu")(x)
    x = x + layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    x = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dropout(0.3)])(x)
    return keras.Model(image, layers.Dense(classes)(x))
