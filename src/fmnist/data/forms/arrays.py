"""A data set as NumPy arrays, in hand or in .npz and .npy files: Keras' MNIST, MedMNIST, KMNIST."""

import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fmnist.data.idx import SIDE_LIMIT, Bytes, require_room
from fmnist.data.parts import Labelled, Parts, grey, refuse_impostor, require_train, role
from fmnist.errors import DataError

LONGEST_HEADER = 10_000  # bytes, NumPy's own limit
PIECE = 1024  # images whose colours become grey at a time


def read_array_files(place: Path, paths: Iterable[Path]) -> Parts:
    """The splits in .npz or .npy files; their names, or those of their arrays, say which is which.

    Nothing is unpickled, and no array is read whose header promises too much. Raises DataError.
    """
    arrays: dict[tuple[str, str], tuple[str, npt.NDArray[Any]]] = {}
    for path in sorted(paths):
        refuse_impostor(path)
        for name, array in _arrays_in(path):
            _, split, kind = role(name)
            if split is None or kind is None:  # one array a file: the file says it
                _, split, kind = role(path.stem)
            if split and kind:
                if (split, kind) in arrays:
                    raise DataError(
                        f"{path}: expected one array of {split} {kind}, received two; "
                        "leave one in the folder"
                    )
                arrays[split, kind] = (f"{path.name}: {name}", array)
    if not arrays:
        raise DataError(
            f"{place}: expected arrays such as x_train, y_train, x_test, y_test or train_images, "
            "train_labels, test_images, test_labels, received others"
        )
    return parts_of(place, arrays)


def parts_of(place: object, arrays: Mapping[tuple[str, str], tuple[str, npt.ArrayLike]]) -> Parts:
    """Splits from arrays by (split, kind), each with its name. Raises DataError."""
    splits: dict[str, Labelled] = {}
    colours = 0
    for split in ("train", "val", "test"):
        found = [arrays.get((split, kind)) for kind in ("images", "labels")]
        if found == [None, None]:
            continue
        if found[0] is None or found[1] is None:
            missing = "images" if found[0] is None else "labels"
            raise DataError(f"{place}: expected {split} images and labels, found no {missing}")
        images, coloured = as_images(*found[0])
        splits[split] = Labelled(images, as_labels(*found[1], len(images)))
        colours += coloured
    require_train(place, splits)
    notes = [f"{colours:,} images in colour are read as grey"] if colours else []
    return Parts(splits, None, notes)


def as_images(name: str, values: npt.ArrayLike) -> tuple[Bytes, int]:
    """Images as uint8, (n, height, width), and how many of them had colours.

    Takes whole numbers of 0 to 255 as (n, height, width), also with 1 or 3 channels at the end.
    Raises DataError, with the line of Python that makes such images of others.
    """
    array = np.asarray(values)
    word = name.rsplit(" ", 1)[-1]
    if array.ndim == 2 and array.size:
        side = math.isqrt(array.shape[1])
        fix = f"{word} = {word}.reshape(-1, {side}, {side})"
        hint = f"; convert: {fix}" if side * side == array.shape[1] else ""
        raise DataError(
            f"{name}: expected images of shape (n, height, width), received {array.shape}{hint}"
        )
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise DataError(
            f"{name}: expected images of shape (n, height, width), with at most 1 or 3 channels "
            f"after it, received shape {array.shape}"
        )
    if 0 in array.shape or max(array.shape[1:3]) > SIDE_LIMIT:
        raise DataError(
            f"{name}: expected at least one image, of at most {SIDE_LIMIT} × {SIDE_LIMIT} pixels, "
            f"received shape {array.shape}"
        )
    array = _as_bytes(name, word, array)
    if array.ndim == 3:
        return array, 0
    if array.shape[3] == 1:
        return array[..., 0], 0
    plain = np.empty(array.shape[:3], np.uint8)
    coloured = 0
    for start in range(0, len(array), PIECE):
        some = array[start : start + PIECE]
        plain[start : start + PIECE] = grey(some)
        coloured += int((some != some[..., :1]).any(axis=(1, 2, 3)).sum())
    return plain, coloured


def _as_bytes(name: str, word: str, array: npt.NDArray[Any]) -> Bytes:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iufb":
        raise DataError(f"{name}: expected uint8 of 0 to 255, received {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{name}: expected uint8 of 0 to 255, received NaN or infinite values")
    least, most = array.min(), array.max()
    if array.dtype.kind in "iu" and least >= 0 and most <= 255:
        return array.astype(np.uint8)
    received = (
        f"{name}: expected uint8 of 0 to 255, received {array.dtype} of {least:g} to {most:g}"
    )
    if array.dtype.kind == "b" or (least >= 0 and most <= 1):
        raise DataError(f'{received}; convert: {word} = ({word} * 255).round().astype("uint8")')
    if least >= 0 and most <= 255:
        raise DataError(f'{received}; convert: {word} = {word}.round().astype("uint8")')
    raise DataError(
        f"{received}; take the images as they were before they were standardised, or convert: "
        f'{word} = (({word} - {word}.min()) * 255 / ({word}.max() - {word}.min())).astype("uint8")'
    )


def as_labels(name: str, values: npt.ArrayLike, count: int) -> npt.NDArray[Any]:
    """Labels of shape (n,), whole numbers or texts. Raises DataError."""
    array = np.asarray(values)
    word = name.rsplit(" ", 1)[-1]
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "iufb" and (array.sum(axis=1) == 1).all():
        raise DataError(
            f"{name}: expected one label an image, of shape ({count},), received one-hot labels of "
            f"shape {array.shape}; convert: {word} = {word}.argmax(axis=1)"
        )
    if array.shape != (count,):
        raise DataError(
            f"{name}: expected one label an image, of shape ({count},), received shape "
            f"{array.shape}"
        )
    if array.dtype == object and all(isinstance(value, str) for value in array):
        array = array.astype(str)
    if array.dtype.kind == "f" and (array == np.round(array)).all():
        raise DataError(
            f"{name}: expected whole numbers, received {array.dtype}; convert: "
            f"{word} = {word}.astype(int)"
        )
    if array.dtype.kind not in "iuU":
        raise DataError(f"{name}: expected whole numbers or texts, received {array.dtype}")
    return array


def _arrays_in(path: Path) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as stream:
                yield path.stem, _read(path, path.stem, stream)
            return
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".npy"):
                    name = entry.filename.removesuffix(".npy")
                    with archive.open(entry) as stream:
                        yield name, _read(path, name, stream)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except DataError:
        raise
    except Exception as error:  # zipfile's, zlib's and NumPy's own, for what is damaged
        raise DataError(f"{path}: damaged ({error}); fetch it anew") from None


def _read(path: Path, name: str, stream: IO[bytes]) -> npt.NDArray[Any]:
    """An array, after what its header promises was checked; nothing is unpickled."""
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise DataError(f"{path}: {name}: expected NumPy's format 1 or 2, received {version[0]}")
    shape, fortran, dtype = read_header(stream, max_header_size=LONGEST_HEADER)
    if dtype.hasobject:
        raise DataError(
            f"{path}: {name}: expected numbers or texts, received pickled Python objects, which "
            "are never read; save it anew as an array of numbers"
        )
    size = math.prod(shape) * dtype.itemsize
    require_room(path, size)
    content = bytearray()
    while len(content) < size and (piece := stream.read(min(1 << 20, size - len(content)))):
        content += piece
    if len(content) < size or stream.read(1):
        raise DataError(
            f"{path}: {name}: expected {size:,} bytes from its header, received "
            f"{'fewer' if len(content) < size else 'more'}; fetch it anew"
        )
    values = np.frombuffer(content, dtype)
    return values.reshape(shape[::-1]).transpose() if fortran else values.reshape(shape)
