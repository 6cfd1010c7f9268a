"""A data set in Parquet files as Hugging Face keeps them: image files in a struct, and labels."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fmnist.data.forms.pictures import Pictures
from fmnist.data.parts import Labelled, Parts, Reading, Report, refuse_impostor, require_train, role
from fmnist.errors import DataError, to_install

IMAGES = ("image", "img", "images", "picture")
LABELS = ("label", "labels", "fine_label", "class", "target")
ROWS = 256  # decoded at a time
LARGEST_ROW_GROUP = 1 << 30  # bytes, unpacked: what is read at a time at the least


def read_parquet_files(
    place: Path, paths: Iterable[Path], reading: Reading, report: Report
) -> Parts:
    """The splits in `train-*.parquet`, `test-*.parquet` and so on. Raises DataError."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"{place}: Parquet files are read by pyarrow, which is not installed; install it with: "
            f"{to_install('parquet')}"
        ) from None
    shards: dict[str, list[Path]] = {}
    for path in sorted(paths):
        refuse_impostor(path)
        split = role(path.stem)[1] or role(path.parent.name)[1] or "train"
        shards.setdefault(split, []).append(path)
    require_train(place, shards)
    classes: tuple[str, ...] | None = None
    pictures = Pictures(place, reading)
    labels: dict[str, list[Any]] = {split: [] for split in shards}
    for split, parts in shards.items():
        for path in parts:
            try:
                with pyarrow.parquet.ParquetFile(path) as file:
                    classes = classes or _classes(file.schema_arrow)
                    for number, (content, label) in enumerate(_rows(path, file)):
                        if pictures.add(split, f"{path}, row {number}", content):
                            labels[split].append(label)
            except (pyarrow.ArrowException, OSError) as error:
                raise DataError(
                    f"{path}: damaged Parquet ({str(error).splitlines()[0]}); fetch it anew"
                ) from None
    notes = pictures.finish(report)
    splits = {s: Labelled(pictures.images(s), np.array(labels[s])) for s in shards}
    return Parts(splits, classes, notes)


def _rows(path: Path, file: Any) -> Iterator[tuple[bytes, Any]]:
    """An image file's bytes and a label for each row."""
    import pyarrow

    schema = file.schema_arrow
    image, label = (
        next((name for name in names if name in schema.names), None) for names in (IMAGES, LABELS)
    )
    if image is None or label is None:
        raise DataError(
            f"{path}: expected columns image and label, received {', '.join(schema.names[:8])}"
        )
    kind = schema.field(image).type
    is_struct = pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not (is_struct or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
        raise DataError(
            f"{path}: expected images as the bytes of a PNG or JPEG in the column {image}, "
            f"received {kind}"
        )
    for group in range(file.num_row_groups):
        if (size := file.metadata.row_group(group).total_byte_size) > LARGEST_ROW_GROUP:
            raise DataError(
                f"{path}: expected row groups of at most {LARGEST_ROW_GROUP:,} bytes, received "
                f"one of {size:,}; write it anew with smaller ones"
            )
    for batch in file.iter_batches(ROWS, columns=[image, label]):
        for picture, value in zip(
            batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True
        ):
            content = picture.get("bytes") if isinstance(picture, dict) else picture
            if value is None:
                raise DataError(
                    f"{path}: expected a label for each image, received a row without one"
                )
            yield content or b"", value


def _classes(schema: Any) -> tuple[str, ...] | None:
    """The names that Hugging Face's metadata give for the labels."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        features = about["info"]["features"]
        names = next(features[name]["names"] for name in LABELS if name in features)
        return tuple(names) if all(isinstance(name, str) for name in names) else None
    except (KeyError, TypeError, ValueError, StopIteration):
        return None
