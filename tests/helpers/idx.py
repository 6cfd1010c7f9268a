"""Small data sets in IDX files, made up so that a model can learn them."""

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt


def idx_bytes(values: npt.NDArray[np.uint8]) -> bytes:
    """The IDX file of `values`: zero, zero, the type, the rank, each dimension, the values."""
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return header + values.tobytes()


def write_idx(path: Path, values: npt.NDArray[np.uint8]) -> Path:
    """Write `values` to `path`, compressed if its name ends in .gz."""
    content = idx_bytes(values)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def make_images(
    count: int, height: int, width: int, classes: int, seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """(count, height, width) images, each its class's fixed blocks under noise, and their labels.

    The blocks depend on the class alone, so that sets of other seeds show the same classes.
    """
    blocks = np.random.default_rng(0).integers(0, 2, (classes, 4, 4)) * 160
    rows, columns = (np.arange(side) * 4 // side for side in (height, width))
    patterns = blocks[:, rows][:, :, columns]
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % classes)
    noise = random.integers(0, 96, (count, height, width))
    return (patterns[labels] + noise).astype(np.uint8), labels.astype(np.uint8)


def write_idx_set(
    folder: Path,
    *,
    train: int = 240,
    test: int = 60,
    height: int = 28,
    width: int = 28,
    classes: int = 10,
    seed: int = 0,
    compress: bool = True,
) -> Path:
    """Write the four files of a set of `train` and `test` images into `folder` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = ".gz" if compress else ""
    for number, (name, count) in enumerate((("train", train), ("t10k", test))):
        images, labels = make_images(count, height, width, classes, 2 * seed + number + 1)
        write_idx(folder / f"{name}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte{suffix}", labels)
    return folder
