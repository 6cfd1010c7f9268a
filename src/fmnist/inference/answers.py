"""The answers that `fmnist predict` prints and draws, one for each image."""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.cells import cell_len, set_cell_size

from fmnist.errors import UsageError, printable
from fmnist.inference.classifier import Classifier, energy
from fmnist.inference.inputs import Given, read
from fmnist.inference.photos import misfit
from fmnist.inference.pictures import Pictures
from fmnist.inference.verdict import verdicts
from fmnist.system import usable_processors

WIDTH = 80  # columns of a line; a file's name alone may take more
LONGEST = 60  # columns of a class's name that are printed


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
    """Print the answer for each image that `words` name, see `inputs.read`; count the refused.

    An answer is its words, then the classes. An IDX file's images stand below its name.

    `say` gets a line for each refused image and for each likely mistake. `show_in` is a folder for
    a picture of each image, or a .png file for one image. Raises UsageError for options that do not
    fit the model or the images and for a file that is no such picture, RunError where one cannot
    be written.
    """
    whole = classifier.whole_photos
    if not as_is and (why := misfit(classifier.shape, whole)):
        raise UsageError(why)
    warnings.filterwarnings("ignore", module="PIL")  # it says nothing that a refusal does not
    show = Pictures(show_in, words) if show_in else None
    refused = 0

    def refuse(line: str) -> None:
        nonlocal refused
        refused += 1
        say(f"error: {printable(line)}")

    def note(line: str) -> None:
        say(f"note: {printable(line)}")

    keep, threads, file = show is not None, usable_processors(), ""
    some_at_a_time = read(
        words, classifier.shape, refuse, note, as_is=as_is, whole=whole, keep=keep, threads=threads
    )
    for given in some_at_a_time:
        if show:
            show.require_place_for(given)
        cut = [not (as_is or whole or each.as_it_is or each.file) for each in given]
        for each, found in zip(given, _found(classifier, given, top, cut), strict=True):
            shown = found if each.pixels.any() else found | {"classes": []}
            if as_json:
                print(json.dumps({"file": each.name, **found}, ensure_ascii=False))
            else:
                if each.file and each.file != file:
                    print(f"{printable(each.file)}:")
                print(_text(printable(each.name.removeprefix(each.file)), shown))
                file = each.file
            if show:
                show.write(each, shown)
    return refused


def _found(
    classifier: Classifier, given: Sequence[Given], top: int, cut: Sequence[bool]
) -> list[dict[str, Any]]:
    """The answer for each image in words, its `top` classes, the best first, and its energy."""
    pixels = np.array([each.pixels for each in given], np.uint8).reshape(-1, *classifier.shape)
    logits, probabilities = classifier.run(pixels)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        {
            "answer": said.words,
            "sure": said.sure,
            "classes": [
                {"class": classifier.classes[i], "probability": float(row[i])} for i in best
            ],
            "unlike": said.unlike,
            "energy": float(value),
        }
        for row, best, said, value in zip(
            probabilities,
            order,
            verdicts(classifier, pixels, logits, probabilities, cut),
            energy(logits),
            strict=True,
        )
    ]


def _text(label: str, found: dict[str, Any]) -> str:
    """The answer in words behind the label, or below a long one; then the classes in columns."""
    words = printable(found["answer"])
    fits = cell_len(label) + 2 + cell_len(words) <= WIDTH
    lines = [f"{label}: {words}"] if fits else [f"{label}:", f"  {words}"]
    names = [_short(printable(each["class"])) for each in found["classes"]]
    width = max([16, *map(cell_len, names)])
    parts = [
        f"{each['probability']:>6.1%} {set_cell_size(name, width)}"
        for each, name in zip(found["classes"], names, strict=True)
    ]
    columns = max(1, (WIDTH - 1) // (width + 9))
    for start in range(0, len(parts), columns):
        lines.append("  " + "  ".join(parts[start : start + columns]).rstrip())
    return "\n".join(lines)


def _short(name: str) -> str:
    return name if cell_len(name) <= LONGEST else set_cell_size(name, LONGEST - 1) + "…"
