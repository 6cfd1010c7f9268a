"""Figures against independent references, and what evaluating a run leaves behind."""

import json
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ENV, SOURCE
from scipy.special import log_softmax
from sklearn import metrics

from fmnist import files
from fmnist.data.splits import SealedSplit, Split
from fmnist.errors import FmnistError, RunError, UsageError
from fmnist.recipes.shipped import recipe
from fmnist.runs.run import Run
from fmnist.scoring.evaluate import evaluate, load_model
from fmnist.scoring.figures import (
    calibration_bins,
    expected_calibration_error,
    probabilities,
    score_logits,
    wilson_interval,
)
from fmnist.scoring.views import predict_logits

SMALL = {"model.filters": "4,4", "model.dense_units": 8, "precision": "float32"}


def some_logits(seed, n, classes, sharpness=2.0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n).astype(np.int32)
    logits = random.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += 1
    return logits * sharpness, labels


problems = st.builds(
    some_logits,
    st.integers(0, 2**32 - 1),
    st.integers(1, 200),
    st.integers(2, 12),
    st.floats(0.01, 50),
)


# intervals


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_solves_its_equation(case):
    """Its ends are the shares p for which the score test is just significant at 5 %."""
    correct, n = case
    low, high = wilson_interval(correct, n)
    share, z = correct / n, 1.959963984540054
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            assert (share - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, rel=1e-6)
    mirrored = wilson_interval(n - correct, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_the_wilson_interval_of_known_cases():
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for case, interval in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson_interval(*case) == pytest.approx(interval, abs=5e-5)
    assert wilson_interval(10, 10)[1] == pytest.approx(1, abs=1e-12)


def test_the_wilson_interval_covers_the_truth_about_as_often_as_it_says():
    for n, p in ((50, 0.9), (200, 0.94), (1000, 0.5)):
        covered = 0.0
        for correct in range(n + 1):
            low, high = wilson_interval(correct, n)
            chance = (
                math.comb(n, correct) * Fraction(p) ** correct * (1 - Fraction(p)) ** (n - correct)
            )
            covered += float(chance) * (low <= p <= high)
        assert 0.92 < covered < 0.98


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(correct, n):
    with pytest.raises(ValueError, match="0 <= correct <= n"):
        wilson_interval(correct, n)


# figures from logits


def slow_calibration_error(logits, labels):
    """Guo et al. 2017, equation 3, image by image: bins (0, 1/15], (1/15, 2/15], …"""
    bins = [[] for _ in range(15)]
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        powers = [math.exp(value - max(row)) for value in row]
        confidence = max(powers) / math.fsum(powers)
        place = next(m for m in range(15) if confidence <= (m + 1) / 15)
        bins[place].append((row.index(max(row)) == label, confidence))
    total = 0.0
    for content in filter(None, bins):
        accuracy = sum(right for right, _ in content) / len(content)
        confidence = math.fsum(c for _, c in content) / len(content)
        total += len(content) / len(labels) * abs(accuracy - confidence)
    return total


@given(problems)
def test_calibration_error_against_a_slow_loop(problem):
    assert expected_calibration_error(*problem) == pytest.approx(
        slow_calibration_error(*problem), abs=1e-9
    )


def test_calibration_bins_hold_every_image_even_one_of_full_confidence():
    chance = np.array([[0.58, 0.42], [0.42, 0.58], [0.9, 0.1], [1.0, 0.0]])
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(chance), -1e3)
    bins = calibration_bins(logits, np.array([0, 0, 0, 1]))
    assert [(i, b["n"]) for i, b in enumerate(bins) if b["n"]] == [(8, 2), (13, 1), (14, 1)]
    assert (bins[8]["low"], bins[8]["high"]) == (8 / 15, 9 / 15)
    assert bins[8]["accuracy"] == 0.5
    assert bins[8]["confidence"] == pytest.approx(0.58)
    assert (bins[14]["accuracy"], bins[14]["confidence"]) == (0, 1)
    assert bins[0] == {"low": 0, "high": 1 / 15, "n": 0, "confidence": None, "accuracy": None}


def test_calibration_error_of_known_cases():
    sure = np.array([[1e4, 0.0], [1e4, 0.0]], np.float32)
    assert expected_calibration_error(sure, np.array([0, 0])) == 0
    assert expected_calibration_error(sure, np.array([1, 1])) == 1
    unsure = np.zeros((2, 2), np.float32)
    assert expected_calibration_error(unsure, np.array([0, 1])) == 0


@settings(max_examples=40, deadline=None)  # the first loads what scikit-learn needs
@given(problems)
def test_every_figure_against_scikit_learn(problem):
    logits, labels = problem
    classes = tuple(f"class {i}" for i in range(logits.shape[1]))
    every = range(len(classes))
    score = score_logits(logits, labels, classes, "val")
    predicted = logits.argmax(axis=1)
    assert (score.n, score.correct) == (len(labels), (predicted == labels).sum())
    assert score.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert score.interval == wilson_interval(score.correct, score.n)
    logs = log_softmax(logits.astype(np.float64), axis=1)
    assert np.allclose(np.log(probabilities(logits).max(axis=1)), logs.max(axis=1))
    assert score.loss == pytest.approx(-logs[np.arange(len(labels)), labels].mean(), rel=1e-6)
    assert score.confusion == metrics.confusion_matrix(labels, predicted, labels=every).tolist()
    assert sum(map(sum, score.confusion)) == score.n, "every image is counted"
    report = metrics.classification_report(
        labels, predicted, labels=every, target_names=classes, output_dict=True, zero_division=0
    )
    assert [row["class"] for row in score.per_class] == list(classes)
    for row in score.per_class:
        expected = report[row["class"]]
        assert row["n"] == expected["support"]
        for ours, theirs in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score")):
            assert row[ours] == pytest.approx(expected[theirs])


def test_huge_logits_give_finite_figures():
    logits = np.array([[1e30, -1e30], [3e38, -3e38]], np.float32)
    score = score_logits(logits, np.array([0, 1]), ("a", "b"), "val")
    assert math.isfinite(score.loss)
    assert score.correct == 1
    assert np.allclose(probabilities(logits).sum(axis=1), 1)


@pytest.mark.parametrize(
    ("shape", "labels", "classes"),
    [
        ((3, 2), [0, 1], 2),
        ((2, 3), [0, 1], 2),
        ((0, 2), [], 2),
        ((2, 2), [0, 2], 2),
        ((2, 2), [0, -1], 2),
    ],
)
def test_what_does_not_fit_together_is_refused(shape, labels, classes):
    names = tuple(map(str, range(classes)))
    with pytest.raises(UsageError, match="val: expected"):
        score_logits(np.zeros(shape), np.array(labels, np.int32), names, "val")


def test_the_headline_has_n_interval_and_count():
    logits = np.repeat(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), (9402, 598), axis=0)
    labels = np.zeros(10_000, np.int32)
    score = score_logits(logits, labels, ("a", "b"), "test", times_opened=2)
    assert score.headline() == "94.02% (n=10,000, 95% CI 93.54–94.47; test opened 2×)"
    score = score_logits(logits, labels, ("a", "b"), "val")
    assert score.headline() == "94.02% (n=10,000, 95% CI 93.54–94.47)"


# batches and views


@pytest.mark.parametrize("views", ["flip", "shift"])
def test_logits_that_are_no_numbers_are_no_warning(views):
    """Who scores refuses them in one line; here each warning is an error."""
    images = np.zeros((2, 4, 4, 1), np.uint8)
    images[:, :, :2] = 1

    def forward(part):
        return np.where(part[:, 0, :2, 0] > part[:, 0, 2:, 0], np.inf, -np.inf)

    assert np.isnan(predict_logits(forward, images, views)).all()


@pytest.mark.parametrize("n", [1, 6, 7, 8, 20])
@pytest.mark.parametrize("views", ["one", "flip", "shift"])
def test_every_image_is_predicted_once_and_in_order(n, views):
    images = np.random.default_rng(0).integers(0, 256, (n, 4, 5, 1), np.uint8)
    weights = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    sizes = []

    def forward(part):
        sizes.append(len(part))
        return part.reshape(len(part), -1).astype(np.float32) @ weights

    logits = predict_logits(forward, images, views, batch=7)

    def of(parts):
        return np.stack(parts).reshape(n, -1).astype(np.float32) @ weights

    expected = of(images)
    if views != "one":
        expected = (expected + of([np.fliplr(image) for image in images])) / 2
    if views == "shift":
        padded = [np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge") for image in images]
        for top, left in ((0, 1), (2, 1), (1, 0), (1, 2)):
            moved = [image[top : top + 4, left : left + 5] for image in padded]
            expected = expected + (of(moved) + of([np.fliplr(image) for image in moved])) / 8
        expected = expected / 2
    assert logits.dtype == np.float32
    assert np.allclose(logits, expected, rtol=1e-5)
    assert max(sizes) <= 7
    assert sum(sizes) == n * {"one": 1, "flip": 2, "shift": 10}[views]


# runs


def some_split(n, seed=0, shape=(12, 12), classes=3):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % classes).astype(np.int32)
    return Split(random.integers(0, 256, (n, *shape, 1), np.uint8), labels, "val", SOURCE)


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    """A maker of finished runs with weights that nobody trained."""
    from fmnist.engine import networks

    def make(**changes):
        chosen = recipe("reference", **(SMALL | changes))
        folder = tmp_path_factory.mktemp("runs") / "run"
        run = Run.create(folder, chosen, ENV)
        model = networks.build(chosen, (12, 12, 1), 3)
        about = {"mean": 0.5, "deviation": 0.3, "shape": [12, 12, 1], "classes": ["a", "b", "c"]}
        run.save_weights({v.path: v.numpy() for v in model.variables}, about)
        return run

    return make


@pytest.mark.engines
def test_evaluating_leaves_score_and_logits(make_run):
    run, split = make_run(), some_split(30)
    assert run.scores == {}
    begin = time.perf_counter()
    score = evaluate(run, split)
    spent = time.perf_counter() - begin
    assert run.scores == {"val": json.loads(json.dumps(score.to_json()))}
    files.write_json(run.path / "env.json", ENV | {"micro_batch": 30})
    again = evaluate(str(run.path), split)
    assert (again.correct, again.confusion) == (score.correct, score.confusion)
    assert again.loss == pytest.approx(score.loss, rel=1e-5)
    assert score.images_per_second > 30 / spent / 1.01
    assert score.times_opened is None
    assert not run.ledger.path.exists()
    with np.load(run.path / "val_logits.npz", allow_pickle=False) as kept:
        assert (kept["labels"] == split.labels).all()
        redone = score_logits(kept["logits"], kept["labels"], ("a", "b", "c"), "val")
    assert (redone.correct, redone.loss) == (again.correct, again.loss)


@pytest.mark.engines
def test_the_model_gets_standardised_images(make_run):
    run, split = make_run(views="one"), some_split(9)
    evaluate(run, split)
    model, about = load_model(run)
    inputs = (split.images.astype(np.float32) / 255 - about["mean"]) / about["deviation"]
    with np.load(run.path / "val_logits.npz") as kept:
        assert np.allclose(kept["logits"], np.array(model(inputs, training=False)), atol=1e-4)


def test_each_scoring_of_test_is_in_the_ledger(make_run):
    run, split = make_run(), some_split(30)
    sealed = SealedSplit(lambda: split, len(split))
    scores = [evaluate(run, sealed) for _ in range(2)]
    assert [score.times_opened for score in scores] == [1, 2]
    assert "test opened 2×" in scores[1].headline()
    entries = files.read_lines(run.ledger.path)
    assert len(entries) == 2
    for entry, score in zip(entries, scores, strict=True):
        assert entry["weights"] == files.sha256(run.weights_path)
        assert (entry["n"], entry["correct"]) == (30, score.correct)
        assert entry["split"] == score.split == "test"
    assert run.scores["test"]["times_opened"] == 2


def test_a_run_on_all_images_has_no_val_score(make_run):
    run, split = make_run(fit_on="all"), some_split(30)
    with pytest.raises(UsageError, match="trained on the validation images too"):
        evaluate(run, split)
    assert run.scores == {}
    assert evaluate(run, SealedSplit(lambda: split, 30)).n == 30


def test_other_images_are_refused_before_anything_is_noted(make_run):
    run = make_run()
    wide, many = some_split(8, shape=(12, 14)), some_split(8, classes=4)
    for split, expected in ((wide, "images of"), (many, "labels 0 to 2")):
        with pytest.raises(UsageError, match=expected):
            evaluate(run, SealedSplit(lambda split=split: split, len(split)))
    foreign = Split(wide.images[:, :, :12], wide.labels, "test", "6" * 64)
    with pytest.raises(UsageError, match="expected the data that it was trained on"):
        evaluate(run, SealedSplit(lambda: foreign, 8))
    assert run.times_opened() == 0


def test_a_split_of_ones_own_is_scored_and_not_kept(make_run):
    run, split = make_run(), some_split(8)
    assert evaluate(run, Split(split.images, split.labels)).n == 8
    assert run.scores == {}


def test_weights_of_another_model_are_refused(make_run):
    run = make_run()
    files.write_json(
        run.path / "recipe.json",
        recipe("reference", **SMALL, **{"model.pool_after": "1"})
        .changed(**{"model.filters": "4,5"})
        .to_json(),
    )
    with pytest.raises(RunError, match=r"the arrays of recipe\.json's model"):
        load_model(run)


def test_a_pair_of_arrays_is_scored_as_a_split_is(make_run):
    """As (x, y) of Keras' users; what is not whole numbers of 0 to 255 says how to convert it."""
    run, split = make_run(), some_split(30)
    images, labels = split.images, split.labels
    expected = evaluate(run, split).confusion
    for x, y in (
        (images, labels),
        (images[..., 0], labels.astype("int64")),
        (images.tolist(), labels[:, None]),
        (images, np.array(["a", "b", "c"])[labels]),
    ):
        pair = evaluate(run, (x, y))
        assert (pair.split, pair.n, pair.confusion) == ("images", 30, expected)
    assert set(run.scores) == {"val"}, "it is no split of the run's data"
    for x, y, words in (
        (images / 255, labels, r"convert: x = \(x \* 255\)"),
        (images.reshape(30, -1), labels, r"convert: x = x\.reshape"),
        (images, np.eye(3)[labels], r"convert: y = y\.argmax"),
        (images, labels[:-1], "expected one label an image"),
        (images, labels.astype("int64") + 2**40, "expected labels 0 to 2"),
        (images, labels.astype(str), "labels of the classes a, b, c, received 0, 1, 2"),
    ):
        with pytest.raises(FmnistError, match=words):
            evaluate(run, (x, y))
    # Numbers that are the classes' names are those, not places among them.
    named = Split.from_arrays(images, labels * 2 + 1, classes=("1", "3", "5"))
    np.testing.assert_array_equal(named.labels, labels)
    with pytest.raises(FmnistError, match="labels of the classes 1, 3, 5, received 0, 2"):
        Split.from_arrays(images, labels, classes=("1", "3", "5"))
