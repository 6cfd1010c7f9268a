"""Writes a data set as IDX files, as MNIST's are named, which every tool for MNIST reads."""

import gzip
import os
from functools import partial
from pathlib import Path

import numpy as np

from fmnist import files
from fmnist.data.assemble import STEMS
from fmnist.data.idx import idx_header
from fmnist.data.splits import Data, Split
from fmnist.errors import DataError, UsageError


def save_idx(data: Data, folder: str | os.PathLike[str]) -> Path:
    """Write train and test as four IDX files (.gz), and `classes.txt`, into a new folder.

    Train and val are written together, in the order of the files that they were read from, so that
    the folder loads with the same splits and the same hash. A val split of the set's own gets two
    more files. Raises UsageError for more than 256 classes and for a folder that is there,
    DataError where it cannot be written.
    """
    folder = Path(folder)
    if len(data.classes) > 256:
        raise UsageError(f"IDX files hold labels 0 to 255, received {len(data.classes)} classes")
    splits: dict[str, Split] = {"train": data.fitting("all"), "test": data.test.open()}
    if "val-images-idx3-ubyte" in data.hashes:
        splits |= {"train": data.train, "val": data.val}
    try:
        folder.mkdir(parents=True)
        for split, part in splits.items():
            values = {"images-idx3": part.images[..., 0], "labels-idx1": part.labels}
            for kind, array in values.items():
                content = np.ascontiguousarray(array, np.uint8)
                packed = gzip.compress(idx_header(content) + content.tobytes(), 6, mtime=0)
                path = folder / f"{STEMS[split]}-{kind}-ubyte.gz"
                files.write_whole(path, partial(Path.write_bytes, data=packed))
        names = "".join(f"{name}\n" for name in data.classes)
        files.write_whole(folder / "classes.txt", lambda p: p.write_text(names, encoding="utf-8"))
    except FileExistsError:
        raise UsageError(f"{folder}: exists already; name a new folder") from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return folder
