"""The values of --over: what is searched, what is refused, and the recipe's own."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from fmnist.errors import UsageError
from fmnist.recipes.shipped import recipe
from fmnist.search.space import own_values, parse_over

QUICK = recipe("quick")


def test_values_are_choices_or_ranges():
    terms = [
        "model.filters=8,16/16,32",
        "model.pool_after=none",
        "epochs=2..5",
        "momentum=0.5..0.9",
        "learning_rate = log:1e-3..1",
    ]
    terms[1] = "model.pool_after=none/1,2"
    assert parse_over(terms, QUICK) == {
        "model.filters": CategoricalDistribution(["8,16", "16,32"]),
        "model.pool_after": CategoricalDistribution(["none", "1,2"]),
        "epochs": IntDistribution(2, 5),
        "momentum": FloatDistribution(0.5, 0.9),
        "learning_rate": FloatDistribution(1e-3, 1, log=True),
    }


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "at least one field"),
        (["learning_rate"], "expected NAME=A/B/C"),
        (["learning_rate="], "expected NAME=A/B/C"),
        (["lerning_rate=0.1/0.2"], "did you mean learning_rate"),
        (["name=a/b"], "unknown recipe field"),
        (["learning_rate=0.1"], "two or more"),
        (["learning_rate=0.1/0.1"], "different"),
        (["learning_rate=0.1/"], "different"),
        (["learning_rate=0.05/0.1/1e-1"], "different values, received 0.1 and 1e-1"),
        (["learning_rate=1..1"], "LOW below HIGH"),
        (["learning_rate=log:0..1"], "above 0"),
        (["learning_rate=1..1e9"], "learning_rate: expected 0 to 1000"),
        (["epochs=1.5..3"], "whole numbers"),
        (["flip=0..1"], "not a number"),
        (["model.filters=1..2"], "not a number"),
        (["optimizer=muon/adm"], "did you mean adamw"),
        (["fit_on=train/all"], "val"),
        (["epochs=1..2", "epochs=1..3"], "once"),
        (["model.filters=8/16", "model.pool_after=2/3"], "pool_after"),
    ],
)
def test_what_cannot_be_searched_is_refused(terms, message):
    with pytest.raises(UsageError, match=message):
        parse_over(terms, recipe("quick", **{"model.filters": "8", "model.pool_after": "1"}))


def test_a_choice_may_need_another():
    """Pooling after the third convolution is possible with one of the filters' choices."""
    terms = ["model.filters=8,8/8,8,8", "model.pool_after=1,2/1,3"]
    assert len(parse_over(terms, QUICK)) == 2


@pytest.mark.parametrize(
    ("terms", "own"),
    [
        (["learning_rate=log:0.01..1", "epochs=1..9"], {"learning_rate": 0.08, "epochs": 5}),
        (["model.pool_after=1/1,3,4"], {"model.pool_after": "1,3,4"}),
        (["learning_rate=0.01/0.080"], {"learning_rate": "0.080"}),
        (["learning_rate=0.1..1", "epochs=1..9"], None),
        (["model.pool_after=1/2"], None),
    ],
)
def test_the_recipes_own_values_where_they_are_searched(terms, own):
    assert own_values(parse_over(terms, QUICK), QUICK) == own
