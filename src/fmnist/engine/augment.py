"""Random crop, flip, cutout and dropout as layers, each image with its own draw.

Keras' layers draw from a generator that counts calls, so what an image gets depends on how its
batch was divided, and its RandomCrop draws one place for a whole batch. Here a draw is a function
of (seed, update, position in the logical batch) and nothing else: the update step sets these with
`step`, and the layers inside read them. So micro-batches, a resumed run and both backends give
every image the same draw. Outside training all are the identity.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
from keras import ops

_STEP: ContextVar[tuple[Any, Any, Any] | None] = ContextVar("step", default=None)


@contextlib.contextmanager
def step(seed: Any, update: Any, positions: Any) -> Iterator[None]:
    """In this block, random layers draw for the images at `positions` of update `update`.

    Args:
        seed: integer, Python's or a scalar tensor.
        update: integer, Python's or a scalar tensor: optimiser updates done before this one.
        positions: int tensor (n,), each image's place in the logical batch.
    """
    token = _STEP.set((seed, update, positions))
    try:
        yield
    finally:
        _STEP.reset(token)


def _mix(x: Any) -> Any:
    """A bijection of uint32 whose output bits each depend on all input bits.

    Multiply-xorshift with the constants of `lowbias32` (C. Wellons, "Prospecting for hash
    functions", 2018; public domain), bias 0.17 %.
    """
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ops.bitwise_xor(x, ops.right_shift(x, np.uint32(shift)))
        x = x * np.uint32(factor)
    return ops.bitwise_xor(x, ops.right_shift(x, np.uint32(16)))


def uniform(stream: int, count: int) -> Any:
    """Numbers in [0, 1), float32 (n, count): `count` for each image of the current step.

    `stream` keeps the draws of different layers apart. Multiples of 2⁻²⁴. Raises RuntimeError
    outside `step`.
    """
    current = _STEP.get()
    if current is None:
        raise RuntimeError(
            "random layers of fmnist need the number of the update: train with fmnist.train, or "
            "with fit on fmnist.micro_batched(model, micro_batch)"
        )
    key = ops.cast(np.uint32(0), "uint32")
    for part in (stream, *current[:2]):
        key = _mix(ops.bitwise_xor(key, ops.cast(part, "uint32")) + np.uint32(0x9E3779B9))
    images = _mix(ops.bitwise_xor(ops.cast(current[2], "uint32"), key))
    places = _mix(ops.cast(ops.arange(count), "uint32") + np.uint32(0x85EBCA6B))
    bits = _mix(ops.expand_dims(images, 1) + ops.expand_dims(places, 0))
    return ops.cast(ops.right_shift(bits, np.uint32(8)), "float32") * np.float32(2.0**-24)


def standardise(images: Any, mean: float, deviation: float) -> Any:
    """uint8 (n, h, w, 1) as float32 with the training split's mean and deviation taken out.

    `mean` and `deviation` are of pixel / 255.
    """
    scale, shift = 1 / (255 * deviation), -mean / deviation
    return ops.cast(images, "float32") * np.float32(scale) + np.float32(shift)


class _RandomLayer(keras.layers.Layer):
    """A layer that acts in training only and keeps the shape."""

    def __init__(self, stream: int, **options: Any) -> None:
        super().__init__(**options)
        self.stream = stream

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"stream": self.stream}


@keras.saving.register_keras_serializable("fmnist")
class RandomCrop(_RandomLayer):
    """Pad by `pixels` with the border's own values, then crop back at a place drawn per image."""

    def __init__(self, pixels: int, stream: int = 1, **options: Any) -> None:
        super().__init__(stream, **options)
        self.pixels = pixels

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training or not self.pixels:
            return x
        draws = uniform(self.stream, 2) * np.float32(2 * self.pixels + 1)
        shifts = ops.cast(ops.floor(draws), "int32") - self.pixels
        for axis in (1, 2):
            side = x.shape[axis]
            index = ops.clip(
                ops.expand_dims(ops.arange(side), 0) + shifts[:, axis - 1 : axis], 0, side - 1
            )
            # A product with a matrix of zeros and ones moves rows exactly; as fast as a gather.
            choose = ops.one_hot(index, side, dtype=x.dtype)
            x = ops.einsum("nij,njwc->niwc" if axis == 1 else "nij,nhjc->nhic", choose, x)
        return x

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"pixels": self.pixels}


@keras.saving.register_keras_serializable("fmnist")
class RandomFlip(_RandomLayer):
    """Mirror each image left to right with probability one half, or never."""

    def __init__(self, active: bool = True, stream: int = 2, **options: Any) -> None:
        super().__init__(stream, **options)
        self.active = active

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training or not self.active:
            return x
        mirrored = ops.reshape(uniform(self.stream, 1) < 0.5, (-1, 1, 1, 1))
        return ops.where(mirrored, ops.flip(x, axis=2), x)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"active": self.active}


@keras.saving.register_keras_serializable("fmnist")
class RandomCutout(_RandomLayer):
    """Set a square of side `side` to 0, its centre anywhere in the image (DeVries & Taylor 2017).

    After standardisation 0 is the mean grey. At the edges part of the square falls outside.
    """

    def __init__(self, side: int, stream: int = 3, **options: Any) -> None:
        super().__init__(stream, **options)
        self.side = side

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training or not self.side:
            return x
        draws = uniform(self.stream, 2)
        inside = None
        for axis in (1, 2):
            length = x.shape[axis]
            start = ops.floor(draws[:, axis - 1 : axis] * np.float32(length)) - self.side // 2
            distance = ops.expand_dims(ops.arange(length, dtype="float32"), 0) - start
            hit = ops.logical_and(distance >= 0, distance < self.side)
            hit = ops.expand_dims(hit, 3 - axis)
            inside = hit if inside is None else ops.logical_and(inside, hit)
        return ops.where(ops.expand_dims(inside, -1), ops.zeros((), x.dtype), x)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"side": self.side}


@keras.saving.register_keras_serializable("fmnist")
class Dropout(_RandomLayer):
    """Set a share `rate` of each image's features to 0 and scale the others by 1 / (1 - rate)."""

    def __init__(self, rate: float, stream: int = 4, **options: Any) -> None:
        super().__init__(stream, **options)
        self.rate = rate

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training or not self.rate:
            return x
        kept = uniform(self.stream, int(np.prod(x.shape[1:]))) >= np.float32(self.rate)
        kept = ops.reshape(kept, (-1, *x.shape[1:]))
        return ops.where(kept, x / (1 - self.rate), ops.zeros((), x.dtype))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rate": self.rate}
