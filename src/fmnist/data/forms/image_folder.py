"""A data set as a folder of images, one subfolder per class."""

import hashlib
import warnings
from pathlib import Path

import numpy as np

from fmnist.data.idx import SIDE_LIMIT, SIZE_LIMIT, Bytes
from fmnist.data.splits import Data, Split, assemble
from fmnist.errors import DataError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
LARGEST_FILE = 16 * 2**20  # bytes of an image or of the class names


def read_image_folder(name: str, names: tuple[str, ...] | None, place: Path) -> Data:
    """The data set in `train/<class>/*` and `test/<class>/*`. Raises DataError."""
    subfolders = {split: _subfolders(place / split) for split in ("train", "test")}
    classes = names or tuple(subfolders["train"])
    for split, folders in subfolders.items():
        if sorted(folders) != sorted(classes):
            odd = sorted(set(folders) ^ set(classes))
            raise DataError(
                f"{place / split}: expected one folder per class, as in "
                f"{'classes.txt' if names else 'train'}; missing or unexpected: {', '.join(odd)}"
            )
    splits, hashes, size = [], {}, None
    for split, folders in subfolders.items():
        images: list[Bytes] = []
        labels: list[int] = []
        digest = hashlib.sha256()
        for label, class_name in enumerate(classes):
            paths = [
                path
                for path in sorted(folders[class_name].iterdir())
                if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
            ]
            if not paths:
                raise DataError(f"{folders[class_name]}: expected images, received none")
            for path in paths:
                packed, image = _read_image(path, size)
                size = image.shape
                if (len(images) + 1) * image.size > SIZE_LIMIT:
                    raise DataError(f"{place / split}: expected at most {SIZE_LIMIT:,} pixels")
                images.append(image)
                labels.append(label)
                relative = f"{class_name}/{path.name}\0{len(packed)}\0"
                digest.update(relative.encode("utf-8", "surrogateescape") + packed)
        splits.append(Split(np.stack(images)[..., np.newaxis], np.array(labels, np.int32)))
        hashes[split] = digest.hexdigest()
    return assemble(name, classes, place, splits[0], splits[1], hashes)


def _subfolders(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected a folder with one folder of images per class, found none"
        )
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }


def _read_image(path: Path, size: tuple[int, ...] | None) -> tuple[bytes, Bytes]:
    """The file's bytes, and its pixels in 8-bit grey, (height, width); transparency is dropped.

    `size`, where known, is the (height, width) that it must have; nothing larger is decoded.
    """
    from PIL import Image

    if not path.is_file() or path.stat().st_size > LARGEST_FILE:
        raise DataError(f"{path}: expected an image of at most {LARGEST_FILE:,} bytes; remove it")
    try:
        packed = path.read_bytes()
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream) as picture:
                width, height = picture.size
                if (height, width) == (size or (height, width)) and max(
                    width, height
                ) <= SIDE_LIMIT:
                    if picture.mode.startswith("I;16"):  # convert() would cut, not scale
                        return packed, (np.asarray(picture) >> 8).astype(np.uint8)
                    return packed, np.asarray(picture.convert("L"))
    except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
        raise DataError(
            f"{path}: expected an image, could not read it ({error}); remove it"
        ) from None
    wanted = f"{size[1]} × {size[0]}" if size else f"at most {SIDE_LIMIT} × {SIDE_LIMIT}"
    raise DataError(
        f"{path}: expected {wanted} pixels, received {width} × {height}; "
        "resize all images to one size"
    )
