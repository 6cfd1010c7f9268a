"""Photos that are learnt together with a data set's images.

Several classes may be right for a photo, or none: see `task.cross_entropy`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data import photo_folders
from fmnist.data.image_file import PhotoError
from fmnist.data.photo_folders import Found
from fmnist.data.splits import Split
from fmnist.errors import DataError, RunError, UsageError
from fmnist.inference.garments import SIDE, Look, in_form, look
from fmnist.inference.photos import is_in_form, raw, read_photo
from fmnist.system import print_message, usable_processors
from fmnist.training.variation import no_garment, of_image, varied

COPIES = 3  # of each photo
OWN = 1 / 16  # share of the data set's images of which there is a varied copy, too


@dataclass(frozen=True, eq=False)
class Photos:
    """Prepared photos: uint8 (m, 28, 28, 1); `allowed`, bool (m, classes), says what is right.

    `sha256` is that of the photos' names and files, so that it is the same on every machine.
    """

    images: NDArray[np.uint8]
    allowed: NDArray[np.bool_]
    sha256: str


def prepare(
    found: Found, split: Split, classes: int, seed: int, say: Callable[[str], None] = print_message
) -> Photos:
    """What is learnt beside a split's images: COPIES of each photo, as it is and varied.

    Besides, copies of a share OWN of the split's images, varied in the same way, so that what is
    turned or in pairs is no sign of a photo; and for each second photo another form in its colours,
    which is no class. `say` is told of photos without a garment, which are left out. Raises
    PhotoError for one that cannot be read, DataError where none has a garment.
    """
    random = np.random.default_rng(seed)
    with ThreadPoolExecutor(usable_processors()) as pool:
        looks = list(pool.map(_look, (path for path, _ in found)))
    some = random.permutation(len(split))[: int(OWN * len(split))]
    images, sets = [], []

    def add(seen: Look, right: tuple[int, ...]) -> bool:
        if there := bool((image := in_form(seen)).any()):
            images.append(image)
            sets.append([place in right for place in range(classes)])
        return there

    empty = []
    for number, ((path, right), seen) in enumerate(zip(found, looks, strict=True)):
        if not add(seen, right):
            empty.append(path)
        for _ in range(COPIES - 1):
            add(varied(seen, random), right)
        if number % 2:
            add(no_garment(seen, random), ())
    if len(empty) == len(found):
        raise DataError(f"{empty[0]}: expected photos of garments, found no garment in any")
    if empty:
        say(f"note: no garment was found in {len(empty):,} photos, such as {empty[0]}: left out")
    for number in some:
        seen = of_image(split.images[number, :, :, 0])
        add(varied(seen, random), (int(split.labels[number]),))
    return Photos(np.stack(images)[..., None], np.array(sets), photo_folders.sha256(found))


def _look(path: Path) -> Look:
    image = read_photo(path)
    if is_in_form(image, (SIDE, SIDE), whole=False):
        return of_image(raw(image))
    return look(np.asarray(image))


def load(
    folder: Path, split: Split, classes: Sequence[str], seed: int, say: Callable[[str], None]
) -> tuple[Photos, dict[str, Any]]:
    """The photos in a folder, prepared, and their record for `env.json`.

    Raises UsageError where `split` is not of 28×28 pixels on black, DataError for a folder that
    `photo_folders.read` refuses and for a photo that cannot be read.
    """
    require_fitting(split)
    found, source = photo_folders.read(folder, classes), photo_folders.source(folder)
    say(f"preparing {len(found):,} photos of {folder}")
    try:
        photos = prepare(found, split, len(classes), seed, say)
    except PhotoError as error:
        raise DataError(f"{error}; convert it to JPEG, or remove it") from None
    return photos, {
        "folder": str(folder.resolve()),
        "files": len(found),
        "images": len(photos.images),
        "kinds": dict(Counter(path.parent.name for path, _ in found)),
        "sha256": photos.sha256,
        "source": source,
    }


def require_fitting(split: Split) -> None:
    """Raise UsageError where photos do not become like the images of a split."""
    height, width, _ = split.images.shape[1:]
    on_black = split.on_black
    if (height, width) != (SIDE, SIDE) or not on_black:
        raise UsageError(
            f"--photos: expected data of {SIDE} × {SIDE} pixels on black, as garments of photos "
            f"become, received {width} × {height} pixels on {'black' if on_black else 'others'}"
        )


def require_same(env: Mapping[str, Any], photos: Photos | None) -> None:
    """Raise RunError unless the photos are those that a run's `env.json` records."""
    then = [each["sha256"] for each in env.get("photos", [])]
    now = [photos.sha256] if photos else []
    if then != now:
        before, after = (values[0][:12] if values else "none" for values in (then, now))
        raise RunError(
            f"the run was begun with photos {before}, here they are {after}; put the old ones "
            "back, or start a new run"
        )
