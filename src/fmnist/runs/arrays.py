"""The arrays of a run folder: its weights, and its logits of a split."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist import files
from fmnist.errors import RunError

SCALE = ".scale"  # ends the name of the scales of an array stored as whole numbers
LARGEST_LOGITS = 2**30  # bytes, unpacked


def read_weights(
    path: Path, expected: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file by name; RunError unless of the `expected` shapes.

    An array stored as whole numbers has a scale for each channel, and is returned as float32.
    """
    scaled = files.load_metadata(path).get("storage") == "int8"
    if scaled and expected is not None:
        scales = {n + SCALE: s[-1:] for n, s in expected.items() if len(s) > 1}
        expected = {**expected, **scales}
    arrays = files.load_arrays(path, expected, ("F32", "I8" if scaled else "F16"))
    if scaled:
        for name in [name for name in arrays if name.endswith(SCALE)]:
            scale, kernel = arrays.pop(name), name.removesuffix(SCALE)
            if kernel not in arrays:
                raise RunError(f"{path}: expected an array for each scale, found none for {name!r}")
            arrays[kernel] = arrays[kernel].astype(np.float32) * scale
    return arrays


def write_logits(path: Path, logits: NDArray[Any], labels: NDArray[Any]) -> None:
    """Write float32 logits (n, classes) and labels (n,) as a compressed npz file."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, logits=logits, labels=labels)

    files.write_whole(path, write)


def read_logits(path: Path, classes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The logits (n, classes) and labels (n,) that `write_logits` wrote. Raises RunError."""
    try:
        with zipfile.ZipFile(path) as parts:
            if sum(part.file_size for part in parts.infolist()) > LARGEST_LOGITS:
                raise ValueError(f"more than {LARGEST_LOGITS:,} bytes unpacked")
        with np.load(path, allow_pickle=False) as arrays:
            logits, labels = arrays["logits"], arrays["labels"]
    except Exception as error:  # a damaged archive raises nearly anything, MemoryError too
        raise RunError(f"{path}: expected logits and labels ({error})") from None
    shape = (labels.size, classes)
    if logits.dtype != np.float32 or logits.shape != shape or not np.isfinite(logits).all():
        raise RunError(f"{path}: expected finite float32 logits for {classes} classes")
    within = labels.dtype.kind in "iu" and labels.ndim == 1 and labels.size
    if not within or labels.min() < 0 or labels.max() >= classes:
        raise RunError(f"{path}: expected labels from 0 to {classes - 1}")
    return logits, labels
