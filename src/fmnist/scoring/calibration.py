"""The temperature that calibrates the probabilities (Guo, Pleiss, Sun & Weinberger 2017)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.scoring.figures import probabilities

COLDEST, HOTTEST = 0.05, 20.0  # bounds of a temperature
UNLIKE = 0.01  # share of images of the data set's kind that falls below the mark


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
