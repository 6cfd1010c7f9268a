"""Which engine runs Keras, in which precision, on which device.

The one module that knows TensorFlow from JAX, but for the two bodies of the update step in
`microbatch.py`. Importing it settles the backend: TensorFlow unless KERAS_BACKEND says jax.
"""

import contextlib
import functools
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fmnist.errors import UsageError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides start-up banners, keeps errors
# Keras would read a choice of backend from a file in the home folder, and write that file. Both
# make results depend on something that no run records.
_BACKEND = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
if "keras" in sys.modules:  # it was imported first and has made its choice
    _BACKEND = sys.modules["keras"].config.backend()
if _BACKEND not in ("tensorflow", "jax"):
    raise UsageError(
        f"KERAS_BACKEND: expected tensorflow or jax, received {_BACKEND!r}; "
        "unset it for TensorFlow (CPU) or set it to jax (GPU, TPU)"
    )


@contextlib.contextmanager
def without_banners() -> Iterator[None]:
    """TensorFlow's C++ side greets on stderr before any setting can reach it."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


try:
    with without_banners():
        import keras
        from keras import ops

        if _BACKEND == "tensorflow":
            import tensorflow as tf
        else:
            import jax
            import jax.numpy as jnp
except ModuleNotFoundError as _error:
    raise UsageError(
        f"training and scoring need more packages ({_error.name} is missing): "
        'pip install "fmnist[train]"'
    ) from None


def name() -> str:
    """`tensorflow` or `jax`."""
    return _BACKEND


def device() -> str:
    """The device that computes, in words, such as `cpu: AMD EPYC with AVX512-BF16, 2 threads`."""
    if _BACKEND == "jax":
        first = jax.devices()[0]
        if first.platform != "cpu":
            return f"{first.platform}: {first.device_kind}"
    elif gpus := tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpus[0])
        return f"gpu: {details.get('device_name', 'unknown')}"
    native = _native_bfloat16()
    return f"cpu: {_processor()}{f' with {native}' if native else ''}, {threads()} threads"


def updates_ahead() -> int:
    """How many updates may be handed to the device before the result of the first is looked at.

    An accelerator that waits for Python after every update stands still meanwhile.
    """
    return 0 if device().startswith("cpu") else 16


def devices() -> list[dict[str, Any]]:
    """Every device of the engine: `platform` (cpu, gpu, tpu), `kind` and `bytes` of own memory.

    `kind` is in the maker's words; `bytes` is None where the engine does not say.
    """
    if _BACKEND == "jax":
        return [
            {"platform": each.platform, "kind": each.device_kind,
             "bytes": (each.memory_stats() or {}).get("bytes_limit")}
            for each in jax.local_devices()
        ]  # fmt: skip
    return [
        {"platform": each.device_type.lower(), "bytes": None,
         "kind": tf.config.experimental.get_device_details(each).get("device_name", "")}
        for each in tf.config.list_physical_devices()
    ]  # fmt: skip


def accelerator_memory() -> tuple[int | None, int | None]:
    """Bytes that this process may have of the first accelerator, and the most it has had so far.

    None where there is no accelerator, or its engine does not say. XLA takes three quarters of a
    GPU for itself, so that is the limit unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
    """
    if _BACKEND != "jax" or jax.local_devices()[0].platform == "cpu":
        return None, None
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit"), stats.get("peak_bytes_in_use")


def product_rate(dtype: str) -> float:
    """Floating-point operations a second in a product of square matrices, on the clock.

    1024×1024 on a processor, eight times as wide elsewhere: the best of five, each of ten products
    but on a processor, where one takes long enough.
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


def threads() -> int:
    """How many processor threads the engine may use."""
    if _BACKEND == "tensorflow" and (
        configured := tf.config.threading.get_intra_op_parallelism_threads()
    ):
        return int(configured)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(count: int) -> None:
    """Let the engine use `count` threads; only before its first computation."""
    if _BACKEND == "tensorflow" and count != threads():
        tf.config.threading.set_intra_op_parallelism_threads(count)


def _native_bfloat16() -> str:
    """What the processor multiplies bfloat16 with, AMX or AVX512-BF16; empty where nothing.

    Names of processors do not tell, at least not in virtual machines, and AMX is three times as
    fast.
    """
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        for flag, known_as in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
            if flag in flags:
                return known_as
    return ""


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> dict[str, Any]:
    """The commit of the checkout that this package runs from, and whether it has changes."""
    here = Path(__file__).resolve().parent
    if not (here.parents[1] / ".git").exists():
        return {"commit": None, "dirty": None}

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def versions() -> dict[str, str]:
    """Versions of what the result can depend on."""
    engine = tf.__version__ if _BACKEND == "tensorflow" else jax.__version__
    return {
        "python": platform.python_version(), "platform": platform.platform(),
        "keras": keras.__version__, _BACKEND: engine, "numpy": np.__version__,
    }  # fmt: skip


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
    native = _native_bfloat16()
    if not native:
        return "float32", "this processor has no instructions for bfloat16"
    # XLA's CPU compiler turns bfloat16 convolutions into float32 ones with conversions around them.
    if _BACKEND == "jax":
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


def view(variable: keras.Variable) -> Any:
    """A variable's value as a NumPy array in the same memory: read it before the next update."""
    if _BACKEND == "tensorflow":
        return np.asarray(memoryview(variable.value.value()))
    return np.asarray(variable.value)


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Layers built inside keep float32 weights and compute in `precision`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception is the engine's way to say that memory was short."""
    if isinstance(error, MemoryError):
        return True
    if _BACKEND == "tensorflow":
        return isinstance(error, tf.errors.ResourceExhaustedError)
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def compile_inference(model: Any, prepare: Any) -> Callable[[Any], Any]:
    """A function from a batch of arrays, through `prepare` and the model, to a NumPy array.

    It follows the model's weights as they change. Not Keras' `predict`, which compiles with XLA
    where it can: convolutions then take twice as long on TensorFlow's CPU device.
    """
    if _BACKEND == "tensorflow":
        forward = tf.function(lambda x: model(prepare(x), training=False), reduce_retracing=True)
        return lambda x: forward(x).numpy()
    pure = jax.jit(lambda w, s, x: model.stateless_call(w, s, prepare(x), training=False)[0])

    def call(x: Any) -> Any:
        weights = [v.value for v in model.trainable_variables]
        return np.asarray(pure(weights, [v.value for v in model.non_trainable_variables], x))

    return call


def normalise_batch(x: Any, scale: Any, offset: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Batch normalisation over all but the last axis, in one pass where the engine has one.

    Returns (normalised in the dtype of x, mean, unbiased variance), the last two float32. Keras'
    own layer runs as a dozen element-wise operations on TensorFlow; the fused one made a step of a
    small network 1.2 to 1.6 times as fast (two cores, bfloat16).
    """
    if _BACKEND == "tensorflow":
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, scale, offset, epsilon=epsilon)
        return y, mean, variance
    y, mean, variance = _normalise(x, scale, offset, epsilon)
    count = math.prod(x.shape[:-1])
    return y, mean, variance * (count / max(count - 1, 1))


def _normalise_forward(x: Any, scale: Any, offset: Any, epsilon: float) -> tuple[Any, Any]:
    """((y, mean, biased variance), what the gradient needs), the values read twice in all."""
    wide = x.astype("float32")
    # A mean square less a squared mean is exact enough only where the values are around 0, so they
    # are taken from one of their own.
    from_one = wide - wide[0, 0, 0]
    mean = from_one.mean((0, 1, 2))
    variance = (jnp.square(from_one).mean((0, 1, 2)) - jnp.square(mean)).clip(0)
    mean += wide[0, 0, 0]
    inverse = 1 / jnp.sqrt(variance + epsilon)
    y = (wide - mean) * (scale * inverse) + offset
    return (y.astype(x.dtype), mean, variance), (x, scale, mean, inverse)


def _normalise_backward(_: float, kept: Any, gradients: Any) -> tuple[Any, Any, Any]:
    """The gradients of x, scale and offset from that of y; the statistics are given none.

    By Ioffe & Szegedy 2015, section 3. What JAX derives by itself reads all values once more.
    """
    x, scale, mean, inverse = kept
    gradient, normal = gradients[0].astype("float32"), (x.astype("float32") - mean) * inverse
    along, total = (gradient * normal).sum((0, 1, 2)), gradient.sum((0, 1, 2))
    count = math.prod(x.shape[:-1])
    at_x = (scale * inverse) * (gradient - (total + normal * along) / count)
    return at_x.astype(x.dtype), along, total


def max_pool(x: Any) -> Any:
    """2×2 max-pooling of (n, h, w, channels) on JAX, an odd row or column left out.

    The gradient goes to the places that are noted forward, where JAX's own seeks them again: an
    update on a processor took 1.2 times as much of its time.
    """
    return _pool(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])


def _pool_forward(x: Any) -> tuple[Any, Any]:
    """(the highest value of every 2×2 places, which of the four has it and is the first to)."""
    n, height, width, channels = x.shape
    squares = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    highest, place = squares[:, :, 0, :, 0], jnp.zeros((), jnp.uint8)
    for number in range(1, 4):
        value = squares[:, :, number // 2, :, number % 2]
        place = jnp.where(value > highest, jnp.uint8(number), place)
        highest = jnp.maximum(value, highest)
    return highest, place


def _pool_backward(place: Any, gradient: Any) -> tuple[Any]:
    parts = [jnp.where(place == number, gradient, 0) for number in range(4)]
    squares = jnp.stack([jnp.stack(parts[:2], 3), jnp.stack(parts[2:], 3)], 2)
    n, rows, _, columns, _, channels = squares.shape
    return (squares.reshape(n, 2 * rows, 2 * columns, channels),)


if _BACKEND == "jax":
    _normalise = jax.custom_vjp(
        lambda *arguments: _normalise_forward(*arguments)[0], nondiff_argnums=(3,)
    )
    _normalise.defvjp(_normalise_forward, _normalise_backward)
    _pool = jax.custom_vjp(lambda x: _pool_forward(x)[0])
    _pool.defvjp(_pool_forward, _pool_backward)
