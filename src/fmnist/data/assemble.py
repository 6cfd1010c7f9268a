"""Makes a data set of what a form holds: labels are numbered, splits drawn, faults refused."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmnist.data.fashion_mnist import (
    CLAIMED_NAMES,
    FASHION_MNIST,
    FASHION_MNIST_CLASSES,
    PINS,
    REORDERED,
    difference,
    is_reordered,
)
from fmnist.data.idx import IdxFile, idx_header
from fmnist.data.parts import Labelled, Parts, Reading, Report, all_resized
from fmnist.data.splits import Data, SealedSplit, Split, hash_of, image_hashes
from fmnist.errors import DataError, printable

VAL_SEED = 20170831  # the day of the clean release; changing it changes every validation split
VAL_PART = 12  # one image of so many of each class: 500 of Fashion-MNIST's 6,000
TEST_SEED = 20170825  # the day of the first one
TEST_PART = 7  # as 10,000 of Fashion-MNIST's 70,000
STEMS = {"train": "train", "val": "val", "test": "t10k"}  # of MNIST's file names
NAMED = 5  # classes in a message


def assemble(
    name: str,
    place: Path | None,
    parts: Parts,
    reading: Reading,
    report: Report,
    *,
    are_idx: bool = False,
) -> Data:
    """The data set in `parts`, checked and divided; DataError says what is wrong with it.

    `name` is that of its files, `place` where they are, None for arrays in hand. `are_idx` says
    that the files have MNIST's names.
    """
    where = place if place is not None else name
    notes = list(parts.notes)
    splits = {split: all_resized(part, reading.size) for split, part in parts.splits.items()}
    if "test" in splits and _are_absent(splits["test"].labels):
        notes.append("test's labels are all -1, which is none: it is left out")
        del splits["test"]
    _require_one_size(where, splits)
    classes, labels = _numbered(where, parts.classes, splits, notes)
    images = {split: part.images for split, part in splits.items()}
    if "test" not in images:
        rows = _test_rows(where, classes, labels["train"])
        images["train"], images["test"] = _divided(images["train"], rows)
        labels["train"], labels["test"] = _divided(labels["train"], rows)
        notes.append(
            f"no test split: {len(rows):,} images, one of {TEST_PART} of each class, are drawn "
            "for it by a fixed seed"
        )
    files = _as_idx_files(where, images, labels, splits)
    name, classes = _identified(name, where, files, parts.classes, classes, are_idx, notes)
    for text in (name, *classes):
        if text != printable(text):
            raise DataError(
                f"{where}: expected names without control characters, received {text!r}"
            )
    if len(np.unique(labels["train"])) < 2:
        raise DataError(f"{where}: expected images of at least two classes in train, received one")
    _require_every_class(where, classes, labels)
    if "val" in images:
        known = [np.concatenate([each["train"], each["val"]]) for each in (images, labels)]
        indices = np.arange(len(images["train"]), len(known[0]))
    else:
        known = [images["train"], labels["train"]]
        indices = val_indices(labels["train"])
        if not len(indices):
            raise DataError(
                f"{where}: expected at least two images of some class in train, since val takes one"
            )
    hashes = {stem: file.sha256 for stem, file in sorted(files.items())}
    source = hash_of(hashes)

    def split(called: str, pixels: Any, numbers: Any) -> Split:
        return Split(pixels[..., np.newaxis], numbers.astype(np.int32), called, source)

    (train_images, val_images), (train_labels, val_labels) = (_divided(k, indices) for k in known)
    train, val = split("train", train_images, train_labels), split("val", val_images, val_labels)
    test = split("test", images["test"], labels["test"])
    _look(where, train, notes)
    if name != FASHION_MNIST and (
        shared := len(
            image_hashes(test.images) & (image_hashes(train.images) | image_hashes(val.images))
        )
    ):
        notes.append(
            f"{shared:,} images are in test and in train or val too, so scores come out too high; "
            "`fmnist audit` lists them"
        )
    for note in notes:
        report(f"note: {where}: {note}")
    index_hash = hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()
    return Data(
        name,
        classes,
        train,
        val,
        SealedSplit(lambda: test, len(test)),
        place,
        hashes,
        index_hash,
        indices,
        reading.to_json(),
    )


def _are_absent(labels: npt.NDArray[Any]) -> bool:
    return labels.dtype.kind == "i" and bool((labels == -1).all())


def _divided(values: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> tuple[Any, Any]:
    """All but these rows, and these rows."""
    return np.delete(values, rows, axis=0), values[rows]


def _require_one_size(where: object, splits: Mapping[str, Labelled]) -> None:
    sizes = {split: part.images.shape[1:] for split, part in splits.items()}
    if len(set(sizes.values())) > 1:
        found = " and ".join(f"{h} × {w} pixels in {split}" for split, (h, w) in sizes.items())
        raise DataError(
            f"{where}: expected images of one size, received {found}; --size 28 (size=28) brings "
            "all of them to 28 × 28"
        )


def _numbered(
    where: object, names: tuple[str, ...] | None, splits: Mapping[str, Labelled], notes: list[str]
) -> tuple[tuple[str, ...], dict[str, npt.NDArray[Any]]]:
    """The classes' names, and each split's labels as 0, 1, … in their order."""
    present = np.unique(np.concatenate([np.unique(part.labels) for part in splits.values()]))
    labels = {split: part.labels for split, part in splits.items()}
    if names is None or present.dtype.kind == "U":
        if names is not None and (odd := sorted(set(present) - set(names))):
            raise DataError(
                f"{where}: expected classes that classes.txt names, received {', '.join(odd)}"
            )
        if names is None and present.dtype.kind != "U" and len(present) <= present[-1]:
            notes.append(
                f"labels are {present[0]} to {present[-1]} with {len(present)} classes among "
                "them: these are the classes"
            )
        order = list(names) if names is not None else present.tolist()
        numbers = np.array([order.index(value) for value in present.tolist()], np.int32)
        return tuple(map(str, order)), {
            split: numbers[np.searchsorted(present, values)] for split, values in labels.items()
        }
    first = int(present[0] == 1 and present[-1] == len(names))  # labels that begin at 1
    if present[0] < 0 or present[-1] - first >= len(names):
        odd = present[0] if present[0] < 0 else present[-1]
        split = next(s for s, values in labels.items() if (values == odd).any())
        raise DataError(
            f"{where}: expected labels 0 to {len(names) - 1}, received {odd} in {split}; the names "
            "(classes.txt, or classes=) are all of the classes, in the order of the labels"
        )
    return names, {split: values.astype(np.int64) - first for split, values in labels.items()}


def _require_every_class(
    where: object, classes: tuple[str, ...], labels: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Raise DataError for a class in test alone, or not in test; one without images may be."""
    counts = {s: np.bincount(values, minlength=len(classes)) for s, values in labels.items()}
    known, tested = counts["train"] + counts.get("val", 0), counts["test"]
    for there, missing, name, other in (
        (known, tested, "train", "test"),
        (tested, known, "test", "train"),
    ):
        if len(odd := np.flatnonzero((there > 0) & (missing == 0))):
            listed = ", ".join(f"{classes[i]} ({there[i]:,})" for i in odd[:NAMED])
            raise DataError(
                f"{where}: expected images of every class in train and in test, received some in "
                f"{name} but none in {other} of: {listed}{' …' if len(odd) > NAMED else ''}; add "
                "images, or leave the class out"
            )


def _test_rows(
    where: object, classes: tuple[str, ...], labels: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    counts = np.bincount(labels, minlength=len(classes))
    if len(few := np.flatnonzero((counts > 0) & (counts < 3))):
        listed = ", ".join(f"{classes[i]} ({counts[i]})" for i in few[:NAMED])
        raise DataError(
            f"{where}: expected at least three images of a class, one each for train, val and "
            f"test, received fewer of: {listed}"
        )
    return drawn(labels, TEST_SEED, TEST_PART)


def _as_idx_files(
    where: object,
    images: Mapping[str, Any],
    labels: Mapping[str, Any],
    read: Mapping[str, Labelled],
) -> dict[str, IdxFile]:
    """The IDX files that `fmnist data --save` writes, by name, with their hashes.

    `read` are the splits as they were read: images that are still those have a known hash.
    """
    files = {}
    for split, stem in STEMS.items():
        if split in images:
            few = labels[split].max() < 256  # else no IDX file of bytes can hold them
            numbers = labels[split].astype(np.uint8 if few else ">i4")
            for kind, values in (("images-idx3", images[split]), ("labels-idx1", numbers)):
                same = split in read and values is read[split].images
                sha256 = (read[split].sha256 if same else "") or _sha256(values)
                files[f"{stem}-{kind}-ubyte"] = IdxFile(Path(str(where)), values, sha256)
    return files


def _sha256(values: npt.NDArray[Any]) -> str:
    """That of the IDX file of these values."""
    digest = hashlib.sha256(idx_header(values))
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _identified(
    name: str,
    where: object,
    files: Mapping[str, IdxFile],
    named: tuple[str, ...] | None,
    classes: tuple[str, ...],
    are_idx: bool,
    notes: list[str],
) -> tuple[str, tuple[str, ...]]:
    """The set's name and classes: content tells Fashion-MNIST, and no other set may claim it."""
    if {s: file.sha256 for s, file in files.items()} == {s: p.sha256 for s, p in PINS.items()}:
        return FASHION_MNIST, FASHION_MNIST_CLASSES
    claims = name.lower() in CLAIMED_NAMES
    if (claims or named is None) and is_reordered(files):
        notes.append("these are Fashion-MNIST's images in another order, so val holds other images")
        return REORDERED, FASHION_MNIST_CLASSES
    why = difference(files) if set(files) == set(PINS) else "unknown content"
    if claims:
        raise DataError(
            f"{where}: expected Fashion-MNIST by its name, but "
            f"{why if are_idx else 'its images are others'}; rename it if it is a set of your own"
        )
    if are_idx and why and not why.startswith("unknown"):  # MNIST, or a release to stay away from
        notes.append(why)
    return name, classes


def _look(where: object, train: Split, notes: list[str]) -> None:
    """Refuse train images without contrast; note those that have next to none."""
    least, most = int(train.images.min()), int(train.images.max())
    if least == most:
        raise DataError(
            f"{where}: expected train images with several values, received {least} in every pixel; "
            "values of 0 to 1 cast to bytes, and drawings in the alpha channel, look like that: "
            "save grey values of 0 to 255"
        )
    if most == 1:
        notes.append("every pixel is 0 or 1, which is black beside black: 0 to 255 is expected")


def val_indices(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Which images are for validation: int64, ascending; one in 12 of each class."""
    return drawn(labels, VAL_SEED, VAL_PART)


def drawn(labels: npt.NDArray[Any], seed: int, part: int) -> npt.NDArray[np.int64]:
    """Rows drawn by class: int64, ascending.

    One in `part` of each class, rounded down, but at least one; a class of one image gives none.
    They are drawn class by class from one stream of numpy's RandomState, which is frozen: no
    version of numpy will draw others.
    """
    stream = np.random.RandomState(seed)
    rows = [np.empty(0, np.int64)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, len(members) // part) if len(members) > 1 else 0
        rows.append(members[stream.permutation(len(members))[:count]])
    return np.sort(np.concatenate(rows)).astype(np.int64)
