"""The answers that `fmnist predict` prints and draws, one for each image."""

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmnist.errors import UsageError, printable
from fmnist.files import require_own, write_own
from fmnist.inference.classifier import Classifier, energy
from fmnist.inference.inputs import KEPT, Given, read
from fmnist.inference.photos import misfit
from fmnist.system import usable_processors

if TYPE_CHECKING:
    from PIL import Image

MARK = "made by fmnist predict"
INDEX_WIDTH = len("[59999]")
UNLIKE = "looks like none of the classes:"


def answer(
    classifier: Classifier,
    words: Sequence[str],
    *,
    top: int,
    as_is: bool,
    show_in: Path | None,
    as_json: bool,
    say: Callable[[str], None],
) -> int:
    """Print a line for each image that `words` name, see `inputs.read`; returns the refused count.

    An IDX file's images stand below its name.

    `say` gets a line for each refused image and for each likely mistake. `show_in` is a folder for
    a picture of each image, or a .png file for one image. Raises UsageError for options that do not
    fit the model or the images and for a file that is no such picture, RunError where one cannot
    be written.
    """
    whole = classifier.whole_photos
    if not as_is and (why := misfit(classifier.shape, whole)):
        raise UsageError(why)
    warnings.filterwarnings("ignore", module="PIL")  # it says nothing that a refusal does not
    show = _Show(show_in, words) if show_in else None
    refused = 0

    def refuse(line: str) -> None:
        nonlocal refused
        refused += 1
        say(f"error: {printable(line)}")

    def note(line: str) -> None:
        say(f"note: {printable(line)}")

    keep, threads, width, file = show is not None, usable_processors(), 0, ""
    some_at_a_time = read(
        words, classifier.shape, refuse, note, as_is=as_is, whole=whole, keep=keep, threads=threads
    )
    for given in some_at_a_time:
        if show:
            show.require_place_for(given)
        labels = [printable(each.name.removeprefix(each.file)) for each in given]
        width = max(width, *(len(printable(each.name)) for each in given if not each.file), 0)
        for each, label, found in zip(given, labels, _found(classifier, given, top), strict=True):
            if as_json:
                print(json.dumps({"file": each.name, **found}, ensure_ascii=False))
            else:
                if each.file and each.file != file:
                    print(f"{printable(each.file)}:")
                print(f"{label:<{INDEX_WIDTH if each.file else width}}  {_text(found)}")
                file = each.file
            if show:
                show.write(each)
    return refused


def _found(classifier: Classifier, given: Sequence[Given], top: int) -> list[dict[str, Any]]:
    """The `top` classes of each image, the best first, and how like the training images it is."""
    pixels = np.array([each.pixels for each in given], np.uint8).reshape(-1, *classifier.shape)
    logits, probabilities = classifier.run(pixels)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        {
            "classes": [
                {"class": classifier.classes[i], "probability": float(row[i])} for i in best
            ],
            "unlike": bool(unlike),
            "energy": float(value),
        }
        for row, best, unlike, value in zip(
            probabilities, order, classifier.is_unlike(logits), energy(logits), strict=True
        )
    ]


def _text(found: dict[str, Any]) -> str:
    parts = [f"{each['class']} {each['probability']:.1%}" for each in found["classes"]]
    return "  ".join([UNLIKE] * found["unlike"] + [f"{part:<18}" for part in parts]).rstrip()


class _Show:
    """Writes pictures into a folder, by the photos' names, or one into a .png file."""

    def __init__(self, place: Path, words: Sequence[str]) -> None:
        self.place, self.one = place, place.suffix.lower() == ".png"
        self.written: set[Path] = set()
        if self.one and any(_same(place, word) for word in words):
            raise UsageError(f"--show: {place} is the photo itself; name another file")
        if self.one:
            require_own(place, MARK)
        elif os.path.lexists(place) and not place.is_dir():
            raise UsageError(f"--show: expected a folder or a .png file, received {place}")

    def require_place_for(self, given: Sequence[Given]) -> None:
        """Raise UsageError for more images than there is a file for."""
        if self.one and len(self.written) + len(given) > 1:
            raise UsageError(f"--show: {self.place} is for one image; name a folder for several")

    def write(self, given: Given) -> None:
        path = self.place
        if not self.one:
            name, number = Path(given.name).name.replace("-", "stdin", given.name == "-"), 1
            path = self.place / f"{name}.seen.png"
            while path in self.written:
                number += 1
                path = self.place / f"{name}.{number}.seen.png"
        from PIL.PngImagePlugin import PngInfo

        about = PngInfo()
        about.add_text("Software", MARK)
        self.written.add(path)
        write_own(path, MARK, lambda place: beside(given).save(place, "PNG", pnginfo=about))


def _same(one: Path, other: str) -> bool:
    with contextlib.suppress(OSError):  # a name that is no file's
        return one.samefile(other)
    return False


def beside(given: Given) -> "Image.Image":
    """The photo on the left and what the model saw on the right, RGB, each KEPT pixels wide."""
    from PIL import Image

    seen = Image.fromarray(given.pixels).resize((KEPT, KEPT), Image.Resampling.NEAREST)
    photo = given.photo or seen
    picture = Image.new("RGB", (2 * KEPT, KEPT), (128, 128, 128))
    place = ((KEPT - photo.width) // 2, (KEPT - photo.height) // 2)
    picture.paste(photo, place, photo if photo.mode == "RGBA" else None)
    picture.paste(seen, (KEPT, 0))
    return picture
