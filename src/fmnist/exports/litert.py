"""A `portable` model as a LiteRT (TensorFlow Lite) file, and its interpreter.

Both come with TensorFlow, so that under JAX there is neither; a run trained there is exported under
TensorFlow.
"""

import contextlib
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist import engine
from fmnist.engine import backend
from fmnist.errors import UsageError


def require_converter() -> None:
    """Raise UsageError where the engine is not the one that converts."""
    if backend.name() != "tensorflow":
        raise UsageError(
            f"litert: expected TensorFlow, which makes the file, found {backend.name()}; unset "
            "KERAS_BACKEND for this command (it exports runs of either engine)"
        )


def save(model: Any, path: Path, storage: str, samples: NDArray[np.uint8]) -> None:
    """Write the model; `storage` and `samples` are as in `onnx_graph.save`."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if storage != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if storage == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if storage == "int8":
        converter.representative_dataset = lambda: ([each[None]] for each in samples)
    with (
        engine.without_banners(),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # the pixels need no statistics: they stay whole numbers
        try:
            content = converter.convert()
        except Exception as error:  # its own, of many lines
            if backend.is_out_of_memory(error):
                raise
            raise UsageError(
                "litert: TensorFlow's converter does not take this network, such as one with "
                "recurrent layers; use --format keras"
            ) from error
        path.write_bytes(content)


def describe(path: Path, text: str, names: Mapping[int, str]) -> None:
    """Append the description and the class names as TensorFlow Lite's metadata has files: zipped.

    `metadata.json` is as Ultralytics writes it, `labels.txt` as TensorFlow Lite's library reads it.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    made = flatbuffer_utils.read_model(str(path))
    made.description = text
    flatbuffer_utils.write_model(made, str(path))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("metadata.json", json.dumps({"description": text, "names": names}))
        file.writestr("labels.txt", "\n".join(names.values()) + "\n")


def load(path: Path, threads: int = 0) -> Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]:
    """A function from uint8 (n, height, width) to the outputs, as the interpreter computes them."""
    import tensorflow as tf

    with engine.without_banners(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the interpreter moves to a package of its own
        interpreter = tf.lite.Interpreter(str(path), num_threads=threads or None)
        run = interpreter.get_signature_runner()
        (images,) = interpreter.get_input_details()
        run(images=np.zeros(images["shape"], np.uint8))  # the first answer says which kernels
    return lambda images: {k: np.asarray(v) for k, v in run(images=images).items()}
