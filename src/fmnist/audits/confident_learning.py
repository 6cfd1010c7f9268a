"""Confident learning: finds labels that are probably wrong by out-of-sample probabilities.

Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
Journal of Artificial Intelligence Research 70. Probabilities are float64 (n, classes), of models
that were not trained on the image; labels are whole numbers (n,).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]
NONE = -1  # where the models are confident of no class
ROUNDING = 1e-6  # a mean of equal probabilities may exceed them by this, and not more


def thresholds(probabilities: Probabilities, labels: Labels) -> NDArray[np.float64]:
    """The mean probability of its own class over each class's images (section 3.1): (classes,).

    Infinity for a class without images, of which nothing is then taken.
    """
    return np.array(
        [
            probabilities[labels == k, k].mean() if (labels == k).any() else np.inf
            for k in range(probabilities.shape[1])
        ]
    )


def confident_class(probabilities: Probabilities, labels: Labels) -> NDArray[np.int64]:
    """Of the classes at or above their thresholds the likeliest (equation 1): (n,), else `NONE`."""
    confident = probabilities >= thresholds(probabilities, labels) - ROUNDING
    likeliest = np.where(confident, probabilities, -1.0).argmax(axis=1)
    return np.where(confident.any(axis=1), likeliest, NONE)


def confident_joint(confident: NDArray[np.int64], labels: Labels, classes: int) -> NDArray[Any]:
    """How many images of each given label (rows) are confidently of each class (columns)."""
    joint = np.zeros((classes, classes), np.int64)
    known = confident != NONE
    np.add.at(joint, (labels[known], confident[known]), 1)
    return joint


def estimated_joint(joint: NDArray[Any], labels: Labels) -> NDArray[np.float64]:
    """The confident joint scaled to each class's count of labels (equation 3, times n), float64.

    A class of which no image is confident counts as rightly labelled. Sums to n.
    """
    scaled = joint.astype(np.float64)
    np.fill_diagonal(scaled, np.maximum(np.diagonal(joint), 1))
    counts = np.bincount(labels, minlength=len(joint))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True) * counts[:, np.newaxis])


def margins(probabilities: Probabilities, labels: Labels) -> NDArray[np.float64]:
    """Probability of the given label less that of the likeliest other class, -1 to 1: (n,)."""
    others = probabilities.copy()
    every = np.arange(len(labels))
    others[every, labels] = -1
    return np.asarray(probabilities[every, labels] - others.max(axis=1))


def suspicious(
    probabilities: Probabilities, labels: Labels
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Images whose label is suspicious, the most so first, and the class suggested for each.

    They lie off the diagonal of the confident joint ("C_confident" of section 3.2). As in cleanlab,
    images whose given label is still the likeliest class are left out. The rank is by
    self-confidence, the probability of the given label; ties are by index.
    """
    confident = confident_class(probabilities, labels)
    unlikely = margins(probabilities, labels) < 0
    found = np.flatnonzero((confident != NONE) & (confident != labels) & unlikely)
    self_confidence = probabilities[found, labels[found]]
    found = found[np.argsort(self_confidence, kind="stable")]
    return found, confident[found]
