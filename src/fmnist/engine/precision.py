"""Chooses the precision in which this device trains faster."""

import contextlib
import functools
import time
from collections.abc import Iterator

import keras
from keras import ops

from fmnist.engine import BACKEND
from fmnist.engine.backend import device, threads
from fmnist.system import native_bfloat16

if BACKEND == "tensorflow":
    import tensorflow as tf


def product_rate(dtype: str) -> float:
    """Floating-point operations a second in a product of square matrices, in wall time.

    The best of five measurements. On a processor each is one product of 1024×1024 matrices, on an
    accelerator ten products of 8192×8192.
    """
    width, times = (1024, 1) if device().startswith("cpu") else (8192, 10)
    factor = keras.random.uniform((width, width), dtype=dtype, seed=0)
    best = float("inf")
    for _ in range(6):  # the first also compiles
        begin = time.perf_counter()
        for _ in range(times):
            product = ops.matmul(factor, factor)
        float(ops.cast(product[0, 0], "float32"))  # waits for the last, and so for all
        best = min(best, time.perf_counter() - begin)
    return times * 2 * width**3 / best


def resolve_precision(precision: str) -> str:
    """`bfloat16` or `float32` for a recipe's precision; `auto`: see `choose_precision`."""
    return choose_precision()[0] if precision == "auto" else precision


def choose_precision() -> tuple[str, str]:
    """`bfloat16` or `float32`, whichever this device trains faster in, and the reason in words.

    bfloat16 is 2 to 5 times as fast as float32 on processors with AMX and on AMD's with
    AVX512-BF16, half as fast on an Intel Xeon whose AMX its virtual machine hides, and many times
    slower on those that lack both.
    """
    if not device().startswith("cpu"):
        return "bfloat16", "an accelerator"
    native = native_bfloat16()
    if not native:
        return "float32", "this processor has no instructions for bfloat16"
    # XLA's CPU compiler turns bfloat16 convolutions into float32 ones with conversions around them.
    if BACKEND == "jax":
        return "float32", "JAX has no bfloat16 convolutions on processors"
    seconds = _convolution_seconds()
    ratio = seconds["bfloat16"] / seconds["float32"]
    chosen = "bfloat16" if ratio < 1 else "float32"
    return chosen, f"a convolution in bfloat16 takes {ratio:.2f} of float32's time, by {native}"


@functools.cache
def _convolution_seconds() -> dict[str, float]:
    """Processor time of a 3×3 convolution by dtype: the best of five by turns, 0.2 s in all.

    Not the time on the clock, which tells more of what else runs; and a convolution as recipes
    have them, 14×14 with 128 channels, 16 images a thread so that no thread waits for work.
    """
    with tf.device("CPU"):
        images = tf.random.stateless_uniform((16 * threads(), 14, 14, 128), (0, 0))
        kernel = tf.random.stateless_uniform((3, 3, 128, 128), (0, 1))
        best = {"float32": float("inf"), "bfloat16": float("inf")}
        for _ in range(6):  # the first also prepares
            for dtype in best:
                x, filters = tf.cast(images, dtype), tf.cast(kernel, dtype)
                begin = time.process_time()
                tf.nn.conv2d(x, filters, 1, "SAME").numpy()
                best[dtype] = min(best[dtype], time.process_time() - begin)
    return best


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Layers built inside keep float32 weights and compute in `precision`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
