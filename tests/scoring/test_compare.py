"""Comparing runs: the statistics against known values and simulation, groups, refusals."""

import math

import numpy as np
import pytest
from samples import ENV, SCORE
from scipy import stats

from fmnist.errors import RunError, UsageError
from fmnist.recipes.shipped import recipe
from fmnist.runs import arrays
from fmnist.runs.run import Run
from fmnist.scoring.compare import compare, mcnemar, newcombe, open_subject, over_images_and_seeds

SMALL = {"model.filters": "2,3", "model.pool_after": "1,2"}


def logits_of(predicted, classes=3, sure=4.0):
    """Logits whose highest is at the predicted class."""
    return sure * np.eye(classes, dtype=np.float32)[predicted]


@pytest.fixture
def make(tmp_path):
    """A maker of runs that predicted something of some labels on val."""

    def make(name, predicted, labels, env=ENV, **changes):
        run = Run.create(tmp_path / "runs" / name, recipe("quick", **SMALL), env)
        run.append_metrics({"epoch": 1, "update": 9, "loss": 1, "accuracy": 0, "seconds": 5.0})
        run.save_logits("val", logits_of(np.asarray(predicted), **changes), np.asarray(labels))
        return run

    return make


@pytest.fixture
def trio(make):
    """Runs right on 6, 8 and 8 of 10 images."""
    labels = np.arange(10) % 3
    wrong = (labels + 1) % 3
    sets = ([0, 1, 2, 3], [0, 4], [5, 6])
    return [
        make(f"seed{i}", np.where(np.isin(np.arange(10), miss), wrong, labels), labels)
        for i, miss in enumerate(sets)
    ]


def test_mcnemar_counts_a_fair_coin():
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(9, 1) == mcnemar(1, 9)


def test_newcombe_gives_the_published_interval():
    """The first example of Newcombe (1998): 36 right twice, 12 the second alone, 2 the first."""
    assert newcombe(36, 2, 12, 50) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    low, high = newcombe(36, 12, 2, 50)
    assert (low, high) == pytest.approx((-0.3404, -0.0569), abs=5e-5)
    assert newcombe(54, 0, 0, 54)[0] < 0 < newcombe(54, 0, 0, 54)[1]


def test_newcombe_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    chances, n, covered = (0.86, 0.08, 0.05, 0.01), 400, 0
    for both, one, two, _ in random.multinomial(n, chances, 1000):
        low, high = newcombe(both, one, two, n)
        covered += low <= chances[2] - chances[1] <= high
    assert 0.93 <= covered / 1000 <= 0.975


def test_groups_are_judged_over_images_and_seeds():
    """With no true difference 5 % of the p are below 0.05, and no more than that by much."""
    random, small = np.random.default_rng(1), 0
    for _ in range(400):
        hard = random.random(500)  # of each image, shared by all runs
        groups = [
            (random.random((3, 500)) < np.clip(hard + random.normal(0, 0.02, (3, 1)), 0, 1)) * 1.0
            for _ in range(2)
        ]
        (low, high), p = over_images_and_seeds(*groups)
        gap = groups[1].mean() - groups[0].mean()
        assert low <= gap <= high
        assert (p < 0.05) == (not low <= 0 <= high)
        small += p < 0.05
    assert small / 400 <= 0.07


def test_one_run_each_over_images_is_the_paired_t_test():
    random = np.random.default_rng(2)
    a, b = (random.random((1, 300)) < 0.9) * 1.0, (random.random((1, 300)) < 0.95) * 1.0
    _, p = over_images_and_seeds(a, b)
    assert p == pytest.approx(stats.ttest_rel(a[0], b[0]).pvalue)


def test_intervals_and_p_are_corrected_alike(make):
    """Of six comparisons none says by its interval what its p does not."""
    n, labels = 400, np.zeros(400, int)
    answers = [np.repeat([1, 0], [k, n - k]) for k in (60, 59, 57, 54, 50, 45, 1)]
    subjects = [
        open_subject([make(f"run{i}", answer, labels)], "val") for i, answer in enumerate(answers)
    ]
    pairs = compare(subjects)
    assert {pair.p_corrected for pair in pairs} == {min(1, 6 * pair.p) for pair in pairs}
    for pair in pairs:
        low, high = pair.interval
        both = round(n * subjects[0].right.mean())
        assert (low, high) == newcombe(both, 0, round(pair.only_second), n, 1 - 0.05 / 6)
        assert (pair.p_corrected < 0.05) == (not low <= 0 <= high), pair
    assert [pair.p_corrected < 0.05 for pair in pairs] == [False] * 3 + [True] * 3
    assert "both corrected for 6 comparisons (Bonferroni)" in " ".join(map(str, pairs))


def test_a_pair_is_counted_image_by_image(trio):
    subjects = [open_subject([run], "val") for run in trio]
    second, third = compare(subjects)
    assert (second.first, second.second) == ("seed0", "seed1")
    assert second.difference == pytest.approx(0.2)
    assert (second.only_first, second.only_second) == (1, 3)
    assert (third.only_first, third.only_second) == (2, 4)
    assert second.p == mcnemar(1, 3)
    assert second.p_corrected == min(1, 2 * second.p)
    per_class = second.per_class[0]  # images 0, 3, 6 and 9; missed: 0 and 3, then 0
    assert (per_class["n"], per_class["first"], per_class["second"]) == (4, 0.5, 0.75)
    assert sum(row["only_second"] for row in second.per_class) == 3
    assert {row["image"] for row in second.images[:4]} == {1, 2, 3, 4}
    four = next(row for row in second.images if row["image"] == 4)
    assert four["first"]["class"] == four["label"] == "b"
    assert four["second"]["class"] == "c"
    said = f"{second} {third}"
    assert said.startswith("seed1 is ahead of seed0 by 20.00 points (95% CI -")
    assert "which may be chance" in said


def test_a_large_difference_is_more_than_chance(make):
    labels = np.zeros(200, int)
    runs = [make("bad", np.arange(200) % 2, labels), make("good", labels, labels)]
    subjects = [open_subject([run], "val") for run in runs]
    said = str(compare(subjects)[0])
    assert said.startswith("good is better than bad by 50.00 points (95% CI 4")
    assert "p < 0.0001), which is more than chance" in said
    subjects.reverse()
    assert str(compare(subjects)[0]) == said


def test_the_same_run_twice_is_refused(trio):
    one, other, third = trio
    for same in ([one, one], [one, other, str(one.path)], [[one, other], third, [other, one]]):
        with pytest.raises(UsageError, match=r"expected different runs, received .* twice"):
            compare(same)
    with pytest.raises(UsageError, match="seed0 twice"):
        compare([[one, one], other])
    assert len(compare([one, [one, other]])) == 1


def test_runs_are_named_by_a_mapping_folders_or_themselves(trio):
    one, other, third = trio
    (pair,) = compare({"narrow": one, "wide": [str(other.path), third.path]})
    assert (pair.first, pair.second) == ("narrow", "wide")
    assert (
        pair
        == compare([open_subject([one], "val", "narrow"), open_subject(trio[1:], "val", "wide")])[0]
    )


def test_equal_answers_are_no_difference(make):
    labels = np.arange(10) % 3
    (pair,) = compare([make("one", labels, labels), make("other", labels, labels)])
    assert (pair.difference, pair.p) == (0, 1)
    assert "right equally often" in str(pair)


def test_a_group_has_mean_and_spread_and_cost(trio):
    group = open_subject(trio, "val")
    assert group.name == "seed0 and 2 more"
    about = group.describe()
    assert about["accuracy"] == pytest.approx(22 / 30)
    assert about["deviation"] == pytest.approx(np.std([0.6, 0.8, 0.8], ddof=1))
    assert (about["seconds"], about["latency"]) == (5, None)
    for run, speed in zip(trio, (100, 200, 400), strict=True):
        run.save_score("val", SCORE | {"images_per_second": speed})
    assert group.describe()["latency"] == pytest.approx((10 + 5 + 2.5) / 3)
    assert about["operations"] == recipe("quick", **SMALL).options.operations((12, 12, 1), 3)
    (pair,) = compare([group, open_subject(trio[1:], "val", "others")])
    assert pair.difference == pytest.approx(0.8 - 22 / 30)
    assert not math.isnan(pair.p)


def test_what_cannot_be_compared_is_refused(make, trio, tmp_path):
    one = open_subject([trio[0]], "val")
    with pytest.raises(UsageError, match="at least two"):
        compare([one])
    with pytest.raises(RunError, match="has no weights yet"):
        open_subject([trio[0]], "test")
    other = make("other", [0, 1], [0, 1])
    with pytest.raises(UsageError, match="different images"):
        compare([one, open_subject([other], "val")])
    data = ENV["data"] | {"hash": "7" * 64}
    strange = make("strange", np.arange(10) % 3, np.arange(10) % 3, ENV | {"data": data})
    with pytest.raises(UsageError, match="expected the data that it was trained on"):
        open_subject([trio[0], strange], "val")
    for content in (b"", b"PK\x03\x04", b"\x80\x04."):
        (trio[0].path / "val_logits.npz").write_bytes(content)
        with pytest.raises(RunError, match="expected logits"):
            open_subject([trio[0]], "val")


def test_logits_that_unpack_without_end_are_refused(trio, monkeypatch):
    monkeypatch.setattr(arrays, "LARGEST_LOGITS", 100)
    with pytest.raises(RunError, match="unpacked"):
        open_subject([trio[0]], "val")
