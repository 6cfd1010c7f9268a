"""Confident learning against cleanlab, and against the paper's definitions in plain loops."""

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_normalized_margin_for_each_label

from fmnist.audits import confident_learning


def made_up(seed, n=3000, classes=5, skew=0.0):
    """Probabilities (n, classes) that mostly see the true class, and labels, a tenth of them wrong.

    With `skew` the models are surer of the first classes than of the last.
    """
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    true = np.where(random.random(n) < 0.1, random.integers(0, classes, n), labels)
    logits = random.normal(size=(n, classes)) * 1.5
    logits[np.arange(n), true] += 2 - skew * true
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("seed", range(4))
def test_the_same_as_cleanlab(seed):
    """Joint, suspicious images, their order; cleanlab rounds the scaled joint to whole images."""
    chance, labels = made_up(seed)
    confident = confident_learning.confident_class(chance, labels)
    joint = confident_learning.confident_joint(confident, labels, 5)
    assert np.array_equal(joint, compute_confident_joint(labels, chance, calibrate=False))
    estimated = confident_learning.estimated_joint(joint, labels)
    assert np.abs(estimated - compute_confident_joint(labels, chance)).max() < 1
    assert estimated.sum() == pytest.approx(len(labels))
    theirs = find_label_issues(
        labels,
        chance,
        filter_by="confident_learning",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    found, suggested = confident_learning.suspicious(chance, labels)
    assert len(found) > 100
    assert np.array_equal(found, theirs)
    assert not (suggested == labels[found]).any()
    margin = get_normalized_margin_for_each_label(labels, chance)
    assert confident_learning.margins(chance, labels) == pytest.approx(2 * margin - 1)


@pytest.mark.parametrize("seed", range(4))
def test_the_same_as_the_definitions(seed):
    """Where the likeliest class of all is below its threshold, cleanlab departs from them."""
    chance, labels = made_up(seed, n=400, classes=3, skew=1.0)
    least = [
        np.mean([p[k] for p, y in zip(chance, labels, strict=True) if y == k]) for k in (0, 1, 2)
    ]
    joint, found, odd = np.zeros((3, 3), int), set(), 0
    for i, (p, given) in enumerate(zip(chance, labels, strict=True)):
        confident = [k for k in (0, 1, 2) if p[k] >= least[k]]
        if confident:
            likeliest = max(confident, key=lambda k: p[k])
            odd += likeliest != p.argmax()
            joint[given, likeliest] += 1
            if likeliest != given and p[given] < max(p):
                found.add(i)
    assert odd
    classes = confident_learning.confident_class(chance, labels)
    assert np.array_equal(confident_learning.confident_joint(classes, labels, 3), joint)
    assert set(confident_learning.suspicious(chance, labels)[0]) == found


def test_the_share_of_flipped_labels_is_estimated():
    """Half of the first class's labels say the second, seen through nearly certain models."""
    random = np.random.default_rng(0)
    true = np.arange(4000) % 4
    labels = np.where((true == 0) & (random.random(4000) < 0.5), 1, true)
    chance = np.full((4000, 4), 0.01)
    chance[np.arange(4000), true] = 0.97
    classes = confident_learning.confident_class(chance, labels)
    joint = confident_learning.confident_joint(classes, labels, 4)
    estimated = confident_learning.estimated_joint(joint, labels)
    wrong = (labels != true).sum()
    assert estimated[1, 0] == pytest.approx(wrong)
    assert estimated.sum() - np.trace(estimated) == pytest.approx(wrong)
    found, suggested = confident_learning.suspicious(chance, labels)
    assert set(found) == set(np.flatnonzero(labels != true))
    assert set(suggested) == {0}


def test_a_class_without_images_and_one_of_which_nothing_is_confident():
    chance = np.array([[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])
    labels = np.array([0, 0, 1])
    least = confident_learning.thresholds(chance, labels)
    assert least == pytest.approx([0.75, 0.8, np.inf])
    classes = confident_learning.confident_class(chance, labels)
    assert classes.tolist() == [0, confident_learning.NONE, 1]
    joint = confident_learning.confident_joint(np.full(3, confident_learning.NONE), labels, 3)
    assert not joint.any()
    assert np.array_equal(confident_learning.estimated_joint(joint, labels), np.diag([2, 1, 0]))
    assert not len(confident_learning.suspicious(chance, labels)[0])
