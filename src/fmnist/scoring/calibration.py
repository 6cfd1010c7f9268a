"""What is fitted once a model is trained: its temperature (Guo et al. 2017), and its doubt."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.inference.classifier import DOUBT
from fmnist.scoring.figures import probabilities

COLDEST, HOTTEST = 0.05, 20.0  # bounds of a temperature
UNLIKE = 0.01  # share of images of the data set's kind that falls below the mark
WRONG = 0.02  # share of photos that may be answered wrongly without doubt
FEWEST = 100  # photos that tell: one of fewer, with a wrong label, would set the doubt alone


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The divisor of logits (n, classes) that gives the lowest mean cross-entropy with labels (n,).

    The result lies from 0.05 to 20. The cross-entropy is convex in 1 / temperature. Its slope there
    is the mean of the logits weighted by their probabilities, minus the mean logit of the labels.
    """
    from scipy.optimize import brentq

    wide = logits.astype(np.float64)
    of_labels = wide[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        return float(((probabilities(wide * inverse) * wide).sum(axis=1) - of_labels).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) >= 0:
        return HOTTEST
    if slope(high) <= 0:
        return COLDEST
    return float(1 / brentq(slope, low, high))


def fit_doubt(chance: NDArray[Any], right: NDArray[np.bool_]) -> float:
    """The lowest probability, DOUBT or more, from which on at most WRONG of all answers are wrong.

    `chance`: the best probability of each answer, float32 (n,), 0 where it is in doubt anyway;
    `right`: whether it is right, (n,). At most 1, which answers of 1 reach all the same.
    """
    wrong = np.sort(chance[~right])[::-1]  # the surest first
    allowed = int(WRONG * len(chance))
    if len(wrong) <= allowed or wrong[allowed] < DOUBT:
        return DOUBT
    return float(np.nextafter(np.float32(wrong[allowed]), np.float32(1)))
