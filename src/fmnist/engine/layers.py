"""Keras layers that compute by the kernels of the engine."""

from typing import Any

import keras
from keras import layers, ops

from fmnist.engine import backend, kernels


@keras.saving.register_keras_serializable("fmnist")
class BatchNorm(layers.Layer):
    """Batch normalisation over all axes but the last, in one pass where the engine has one.

    The same result as `keras.layers.BatchNormalization` but for rounding and for the running
    variance, which here is the unbiased one. Weights and statistics are float32.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-3, **options: Any) -> None:
        super().__init__(**options)
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, input_shape: Any) -> None:
        width = (input_shape[-1],)

        def weight(name: str, initial: str, trainable: bool) -> Any:
            return self.add_weight(
                name=name,
                shape=width,
                initializer=initial,
                dtype="float32",
                trainable=trainable,
                autocast=False,
            )

        self.gamma, self.beta = weight("gamma", "ones", True), weight("beta", "zeros", True)
        self.mean, self.variance = weight("mean", "zeros", False), weight("variance", "ones", False)

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training:
            y, mean, variance = kernels.normalise_batch(
                x, self.gamma.value, self.beta.value, self.epsilon
            )
            share = 1 - self.momentum
            self.mean.assign(self.mean + (mean - self.mean) * share)
            self.variance.assign(self.variance + (variance - self.variance) * share)
            return y
        scale = self.gamma / ops.sqrt(self.variance + self.epsilon)
        offset = self.beta - self.mean * scale
        return x * ops.cast(scale, x.dtype) + ops.cast(offset, x.dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"momentum": self.momentum, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("fmnist")
class GlobalMax(layers.GlobalMaxPooling2D):
    """Each channel's maximum over all places, whose gradient on JAX goes to the first of them.

    JAX's own gradient looks for the places that equal the maximum. XLA's CPU compiler may compute
    them anew with other rounding and then find none, and the gradient of most images is lost
    (seen in jaxlib 0.10.1 and 0.10.2 with up to 32 images a device).
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training or backend.name() != "jax":
            return super().call(inputs)
        places = ops.reshape(inputs, (inputs.shape[0], -1, inputs.shape[-1]))
        first = ops.argmax(places, axis=1, keepdims=True)
        return ops.squeeze(ops.take_along_axis(places, first, axis=1), 1)


@keras.saving.register_keras_serializable("fmnist")
class MaxPooling2D(layers.MaxPooling2D):
    """Keras' own of 2×2 places, which on JAX is trained through `kernels.max_pool`."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training or backend.name() != "jax":
            return super().call(inputs)
        return kernels.max_pool(inputs)
