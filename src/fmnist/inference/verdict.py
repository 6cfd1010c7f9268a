"""The words of an answer, one rule for `fmnist predict`, its pictures and the server.

The page has the same rule, in `serving/web/answer.js`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fmnist.inference.classifier import Bytes, Classifier, Floats


class Verdict(NamedTuple):
    """An answer in words, and its `kind`: "nothing", "unlike", "unsure" or "sure"."""

    kind: str
    words: str

    @property
    def sure(self) -> bool:
        """Whether the words name one class."""
        return self.kind == "sure"

    @property
    def unlike(self) -> bool:
        """Whether the image shows none of the classes, or nothing at all."""
        return self.kind in ("nothing", "unlike")


def verdicts(
    classifier: Classifier,
    images: Bytes,
    logits: Floats,
    probabilities: Floats,
    cut: Sequence[bool] | npt.NDArray[np.bool_],
) -> list[Verdict]:
    """A verdict for each of the images, uint8 (n, height, width).

    `logits` and `probabilities`, (n, classes), are what `classifier.run` answered. `cut`: for each
    image whether a garment was to be cut out of a photo; it is of zeros where none was found.
    """
    rows = zip(images, classifier.is_unlike(logits), probabilities, cut, strict=True)
    return [_verdict(classifier, *row) for row in rows]


def _verdict(
    classifier: Classifier, image: Bytes, unlike: np.bool_, probabilities: Floats, cut: bool
) -> Verdict:
    if not image.any():
        return Verdict("nothing", "no garment found" if cut else "nothing in the image")
    if unlike:
        return Verdict("unlike", "looks like none of the classes")
    first, second = np.argsort(-probabilities, kind="stable")[:2]
    best, other = (_with_article(classifier.classes[i]) for i in (first, second))
    if probabilities[first] < classifier.doubt:
        return Verdict("unsure", f"not sure: {best} or {other}")
    return Verdict("sure", f"probably {best}")


def _with_article(name: str) -> str:
    if name[:1].isdecimal():
        return name
    return f"{'an' if name[:1].lower() in {*'aeiou'} else 'a'} {name}"
