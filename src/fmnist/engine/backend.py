"""The engine's devices, and the few calls that TensorFlow and JAX name differently.

Only `engine` itself, `precision`, `kernels`, this module and the two bodies of the update step in
`training/update.py` treat the two engines differently.
"""

import os
import platform
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from fmnist.engine import BACKEND
from fmnist.system import native_bfloat16, processor

if BACKEND == "tensorflow":
    import tensorflow as tf
else:
    import jax


def name() -> str:
    """`tensorflow` or `jax`."""
    return BACKEND


def device() -> str:
    """The device that computes, in words, such as `cpu: AMD EPYC with AVX512-BF16, 2 threads`."""
    if BACKEND == "jax":
        first = jax.devices()[0]
        if first.platform != "cpu":
            return f"{first.platform}: {first.device_kind}"
    elif gpus := tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpus[0])
        return f"gpu: {details.get('device_name', 'unknown')}"
    native = native_bfloat16()
    return f"cpu: {processor()}{f' with {native}' if native else ''}, {threads()} threads"


def updates_ahead() -> int:
    """How many updates may be queued on the device before the first one's result is read.

    An accelerator is idle while it waits for Python after each update.
    """
    return 0 if device().startswith("cpu") else 16


def devices() -> list[dict[str, Any]]:
    """Every device of the engine: `platform` (cpu, gpu, tpu), `kind` and `bytes` of own memory.

    `kind` is in the maker's words; `bytes` is None where the engine does not say.
    """
    if BACKEND == "jax":
        return [
            {
                "platform": device.platform,
                "kind": device.device_kind,
                "bytes": (device.memory_stats() or {}).get("bytes_limit"),
            }
            for device in jax.local_devices()
        ]
    return [
        {
            "platform": device.device_type.lower(),
            "bytes": None,
            "kind": tf.config.experimental.get_device_details(device).get("device_name", ""),
        }
        for device in tf.config.list_physical_devices()
    ]


def accelerator_memory() -> tuple[int | None, int | None]:
    """The first accelerator's memory limit for this process, and its peak so far, in bytes.

    None where there is no accelerator, or its engine does not say. XLA takes three quarters of a
    GPU for itself, so that is the limit unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
    """
    if BACKEND != "jax" or jax.local_devices()[0].platform == "cpu":
        return None, None
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit"), stats.get("peak_bytes_in_use")


def threads() -> int:
    """How many processor threads the engine may use."""
    if BACKEND == "tensorflow" and (
        configured := tf.config.threading.get_intra_op_parallelism_threads()
    ):
        return int(configured)
    return _processors()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(count: int) -> bool:
    """Let the engine use `count` threads, or as many as there are processors if that is less.

    False where it uses another number: also where it has begun to compute with one.
    """
    usable = min(count, _processors())
    if BACKEND == "tensorflow" and usable != threads():
        try:
            tf.config.threading.set_intra_op_parallelism_threads(usable)
        except RuntimeError:
            return False
    return usable == count


def versions() -> dict[str, str]:
    """Versions of the programs that the result can depend on."""
    engine = tf.__version__ if BACKEND == "tensorflow" else jax.__version__
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "keras": keras.__version__,
        BACKEND: engine,
        "numpy": np.__version__,
    }


def view(variable: keras.Variable) -> Any:
    """A variable's value as a NumPy array in the same memory: read it before the next update."""
    if BACKEND == "tensorflow":
        return np.asarray(memoryview(variable.value.value()))
    return np.asarray(variable.value)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception is the engine's out-of-memory error."""
    if isinstance(error, MemoryError):
        return True
    if BACKEND == "tensorflow":
        return isinstance(error, tf.errors.ResourceExhaustedError)
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def traced_once(function: Any, *arguments: tuple[tuple[int | None, ...], Any]) -> Any:
    """A TensorFlow function of tensors of these shapes, where None is any size, and dtypes.

    TensorFlow traces it once for all sizes. Each training has functions of its own; that the same
    code is traced again for the next is no fault, which TensorFlow would warn of.
    """
    signature = [tf.TensorSpec(shape, dtype) for shape, dtype in arguments]
    traced = tf.function(function, input_signature=signature)
    traced._omit_frequent_tracing_warning = True
    return traced


def compile_inference(model: Any, prepare: Any) -> Callable[[Any], Any]:
    """A function from uint8 images (n, h, w, 1), through `prepare` and the model, to a NumPy array.

    It follows the model's weights as they change. Not Keras' `predict`, which compiles with XLA
    where it can: convolutions then take twice as long on TensorFlow's CPU device.
    """
    if BACKEND == "tensorflow":
        images = (model.input_shape, "uint8")
        forward = traced_once(lambda x: model(prepare(x), training=False), images)
        return lambda x: forward(x).numpy()
    pure = jax.jit(lambda w, s, x: model.stateless_call(w, s, prepare(x), training=False)[0])

    def call(x: Any) -> Any:
        weights = [v.value for v in model.trainable_variables]
        return np.asarray(pure(weights, [v.value for v in model.non_trainable_variables], x))

    return call
