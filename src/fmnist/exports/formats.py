"""Writes, loads and times each export format."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.engine import backend, keras
from fmnist.exports import keras_file, litert, onnx_graph, wants
from fmnist.scoring.views import BATCH

FILES = {"onnx": "model.onnx", "litert": "model.tflite", "keras": "model.keras"}
Forward = Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]


def logits_of(forward: Forward, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of images (n, h, w) or (n, h, w, 1)."""
    images = images.reshape(images.shape[:3])
    parts = range(0, len(images), BATCH)
    return np.concatenate([forward(images[i : i + BATCH])["logits"] for i in parts])


def save(
    network: Any,
    form: str,
    path: Path,
    storage: str,
    samples: NDArray[np.uint8],
    *,
    flip: bool = False,
) -> None:
    """Write the file; `samples` are images that set the ranges of int8. `flip`: for ONNX alone."""
    if form == "onnx":
        onnx_graph.save(network, path, storage, samples, flip=flip)
    elif form == "litert":
        litert.save(network, path, storage, samples)
    else:
        keras_file.save(network, path)


def describe(form: str, path: Path, about: Mapping[str, Any]) -> None:
    """Let the file itself say what it takes and gives; `about` is what the classifier reads."""
    text, names = wants.description(about["name"], form, about), wants.names(about)
    if form == "onnx":
        onnx_graph.describe(path, about, text, names)
    elif form == "litert":
        litert.describe(path, text, names)
    else:
        keras_file.describe(path, {"description": text, "names": names})


def load(form: str, path: Path, threads: int = 0) -> Forward:
    """The file in its runtime: a function from images (n, height, width) to the outputs."""
    if form == "onnx":
        return onnx_graph.load(path, threads)
    if form == "litert":
        return litert.load(path, threads)
    model = keras.models.load_model(path, compile=False)
    return lambda images: {k: np.asarray(v) for k, v in model(images, training=False).items()}


def runtime_of(form: str) -> str:
    """The program that ran the file, with its version."""
    if form == "onnx":
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"
    versions = backend.versions()
    if form == "litert":
        return f"LiteRT of TensorFlow {versions['tensorflow']}"
    return f"Keras {versions['keras']} on {backend.name()}"


def measure_latency(form: str, path: Path, image: NDArray[np.uint8]) -> dict[str, Any]:
    """The median time for one image over up to 200 calls, on one thread (Keras: on all)."""
    forward, times = load(form, path, 1), list[float]()
    until = time.perf_counter() + 3
    while len(times) < 220 and (len(times) < 25 or time.perf_counter() < until):
        begin = time.perf_counter()
        forward(image)
        times.append(time.perf_counter() - begin)
    return {
        "milliseconds": round(1000 * statistics.median(times[20:]), 3),
        "machine": backend.device().rpartition(",")[0],
        "threads": backend.threads() if form == "keras" else 1,
    }
