"""What each form of data is read as: labelled images by split, not yet checked nor divided."""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmnist.data.idx import SIDE_LIMIT, Bytes
from fmnist.errors import DataError, UsageError

Report = Callable[[str], None]
"""Called with a line that the user should read."""

# The words of a file's, folder's or array's name that say which split it is, and what it holds.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "t10k"), "test"),
}
KINDS = {
    **dict.fromkeys(("x", "image", "images", "img", "imgs"), "images"),
    **dict.fromkeys(("y", "label", "labels", "target", "targets"), "labels"),
}


@dataclass(frozen=True)
class Reading:
    """How a data set is asked to be read; it goes into a run's record.

    `size`: images are brought to so many pixels a side, None for their own. `skip_unreadable`:
    images that cannot be read are left out, and counted.
    """

    size: int | None = None
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= SIDE_LIMIT:
            raise UsageError(f"size: expected 1 to {SIDE_LIMIT} pixels, received {self.size}")

    def to_json(self) -> dict[str, Any]:
        """The fields that are not as they are by default."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True)
class Labelled:
    """A split as it is stored. `images`: uint8, (n, height, width); `labels`: (n,), of any type.

    `sha256` is that of the IDX file of these very images, where reading it has told it already.
    """

    images: Bytes
    labels: npt.NDArray[Any]
    sha256: str = ""


@dataclass
class Parts:
    """The splits that a form of data holds, by "train", "val" and "test", and what it says of them.

    `classes` are names in the order of the labels, where the form has them. `notes` are lines for
    the user.
    """

    splits: dict[str, Labelled]
    classes: tuple[str, ...] | None = None
    notes: list[str] = field(default_factory=list)


def role(name: str) -> tuple[str, str | None, str | None]:
    """What a name says: the set's name, the split and the kind ("images" or "labels") or None.

    `emnist-letters-train-images-idx3-ubyte` is of the set `emnist-letters`.
    """
    words = [word for word in _words(name) if word]
    where = next((i for i, word in enumerate(words) if word in SPLITS), None)
    kind = next((KINDS[word] for word in words if word in KINDS), None)
    if where is None:
        return "-".join(words), None, kind
    before = [word for word in words[:where] if word not in KINDS]
    return "-".join(before), SPLITS[words[where]], kind


def _words(name: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in name.lower()).split()


def require_train(place: object, splits: Collection[str]) -> None:
    """Raise DataError unless there is a train split among those that were found."""
    if "train" not in splits:
        found = " and ".join(sorted(splits)) or "none"
        raise DataError(
            f"{place}: expected a train split with labels, received {found}; name the folder that "
            "holds it as well"
        )


def refuse_impostor(path: Path) -> None:
    """Raise DataError for what stands in a file's place: a Git LFS pointer, or a web page."""
    try:
        reason = impostor_in(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    if reason:
        raise DataError(f"{path}: {reason}")


def impostor_in(path: Path) -> str | None:
    """As `impostor`, of a file."""
    with path.open("rb") as stream:
        return impostor(stream.read(200))


def impostor(head: bytes) -> str | None:
    """What a file's first bytes show that it is instead of data, and what to do; or None."""
    if head.startswith(b"version https://git-lfs"):
        return (
            "expected data, received a Git LFS pointer; fetch the file itself with `git lfs pull`"
        )
    if head.lstrip()[:1] == b"<" and b"html" in head.lower():
        return "expected data, received a web page; fetch the file anew, and see what it says"
    if not head:
        return "expected data, received an empty file; fetch it anew"
    return None


def read_classes(folder: Path, largest: int = 2**20) -> tuple[str, ...] | None:
    """The names in `classes.txt`, one a line in the order of the labels; None without the file."""
    path = folder / "classes.txt"
    if not path.is_file():
        return None
    if path.stat().st_size > largest:
        raise DataError(f"{path}: expected at most {largest:,} bytes of class names")
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8").strip().splitlines())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected one class name per line in UTF-8 ({error})") from None
    if len(set(names)) < max(2, len(names)) or "" in names:
        raise DataError(f"{path}: expected at least two class names, one per line, all different")
    return names


def grey(colours: npt.NDArray[Any]) -> Bytes:
    """Grey of (…, 3) uint8 colours, (…), as Pillow makes it: ITU-R BT.601 in 16 bits."""
    red, green, blue = (colours[..., i].astype(np.uint32) for i in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)


def resized(image: Bytes, rows: int, columns: int) -> Bytes:
    """A grey image brought to (rows, columns), uint8, in its own proportions.

    Pillow's bilinear filter averages as it shrinks. What is left at the sides takes the median of
    the image's border.
    """
    from PIL import Image

    if image.shape == (rows, columns):
        return image
    height, width = image.shape
    scale = min(rows / height, columns / width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    whole = Image.new("L", (columns, rows), int(np.median(border)))
    small = Image.fromarray(image).resize(inner, Image.Resampling.BILINEAR)
    whole.paste(small, ((columns - inner[0]) // 2, (rows - inner[1]) // 2))
    return np.asarray(whole)


def all_resized(part: Labelled, size: int | None) -> Labelled:
    """A split whose images have the size that was asked for."""
    if size is None or part.images.shape[1:] == (size, size):
        return part
    return Labelled(np.stack([resized(image, size, size) for image in part.images]), part.labels)
