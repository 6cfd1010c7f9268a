"""The search space of a sweep: the values of `--over` as Optuna's distributions by field."""

import contextlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, product
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from fmnist.errors import UsageError
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.values import one_of

MOST_COMBINATIONS = 1000  # that are tried to find one in which a choice is possible
RANGE = re.compile(r"(log:)?([-+.\de]+)\.\.([-+.\de]+)", re.IGNORECASE)
Space = dict[str, BaseDistribution]


def parse_over(terms: Iterable[str], recipe: Recipe) -> Space:
    """The searched fields and their values: `NAME=A/B/C`, `NAME=LOW..HIGH` or `NAME=log:LOW..HIGH`.

    Values are written as for `--set`. Raises UsageError for an unknown name, a range for a field
    that is not a number, a value that is invalid with every combination of the others, an ensemble,
    and a recipe without val.
    """
    if recipe.fit_on != "train":
        raise UsageError("fit_on: expected train, since a sweep chooses by val, received all")
    if recipe.model == "ensemble":
        raise UsageError(
            "model: expected one that is trained, received an ensemble of finished runs"
        )
    fields = {name: value for name, value, _, _ in recipe.describe() if name != "name"}
    space: Space = {}
    for term in terms:
        name, _, text = (part.strip() for part in term.partition("="))
        if not text:
            raise UsageError(
                f"--over: expected NAME=A/B/C, NAME=LOW..HIGH or NAME=log:LOW..HIGH, "
                f"received {term!r}"
            )
        one_of("recipe field", name, fields)
        if name in space or name == "fit_on":
            why = (
                "the field once"
                if name in space
                else "fit_on to stay train, since a sweep chooses by val"
            )
            raise UsageError(f"--over {name}: expected {why}, received {term!r}")
        space[name] = _distribution(name, text, fields[name])
    if not space:
        raise UsageError("--over: expected at least one field to search, received none")
    ends = {name: _ends(distribution) for name, distribution in space.items()}
    for name, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            _refuse_equal(recipe, name, distribution.choices)
    for name, values in ends.items():
        others = {other: ends[other] for other in ends if other != name}
        for value in values:
            _require_possible(recipe, name, value, others)
    return space


def _distribution(name: str, text: str, value: Any) -> BaseDistribution:
    """The values of a field, whose value in the recipe is `value`."""
    span = RANGE.fullmatch(text)
    if not span:
        choices = [choice.strip() for choice in text.split("/")]
        if len(set(choices)) != len(choices) or "" in choices or len(choices) < 2:
            raise UsageError(
                f"--over {name}: expected LOW..HIGH, or two or more different values separated by "
                f"/, received {text!r}"
            )
        return CategoricalDistribution(choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(
            f"--over {name}: expected values separated by /, since it is not a number, "
            f"received {text!r}"
        )
    try:
        kind: Any = int if isinstance(value, int) else float
        low, high = kind(span[2]), kind(span[3])
        make: Any = IntDistribution if kind is int else FloatDistribution
        if not low < high:
            raise ValueError
        return make(low, high, log=bool(span[1]))  # type: ignore[no-any-return]
    except ValueError:
        raise UsageError(
            f"--over {name}: expected {'whole numbers' if kind is int else 'numbers'} LOW..HIGH "
            f"with LOW below HIGH{' and above 0' if span[1] else ''}, received {text!r}"
        ) from None


def _refuse_equal(recipe: Recipe, name: str, choices: Sequence[Any]) -> None:
    """Raise UsageError for choices that are one value in two ways of writing, as 0.1 and 0.10."""
    made: list[tuple[Any, Recipe]] = []
    for choice in choices:
        with contextlib.suppress(UsageError):  # one that needs another value of another field
            made.append((choice, recipe.changed(**{name: choice})))
    for i, (choice, changed) in enumerate(made):
        if equal := [other for other, known in made[:i] if known == changed]:
            raise UsageError(
                f"--over {name}: expected different values, received {equal[0]} and {choice}"
            )


def propose(trial: Trial, name: str, distribution: Any) -> None:
    """Suggest a value for a trial; one that already has a value keeps it."""
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    else:
        trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def combinations(space: Space) -> list[dict[str, Any]] | None:
    """All combinations of a space's values; None where they have no end, or are very many."""
    values: list[Sequence[Any]] = []
    for distribution in space.values():
        if isinstance(distribution, CategoricalDistribution):
            values.append(distribution.choices)
        elif isinstance(distribution, IntDistribution):
            values.append(range(distribution.low, distribution.high + 1))
        else:
            return None
    if math.prod(map(len, values)) > MOST_COMBINATIONS:
        return None
    return [dict(zip(space, each, strict=True)) for each in product(*values)]


def _ends(distribution: Any) -> Sequence[Any]:
    """All of a few choices, or both ends of a range."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return distribution.low, distribution.high


def _require_possible(
    recipe: Recipe, name: str, value: Any, others: Mapping[str, Sequence[Any]]
) -> None:
    """Raise UsageError where no combination with the others makes a recipe."""
    refusal: UsageError | None = None
    for chosen in islice(product(*others.values()), MOST_COMBINATIONS):
        try:
            recipe.changed(**dict(zip(others, chosen, strict=True)), **{name: value})
            return
        except UsageError as error:
            refusal = error
    raise UsageError(f"--over: {refusal}") from None


def own_values(space: Space, recipe: Recipe) -> dict[str, Any] | None:
    """The recipe's own values of the searched fields; None where the space lacks one."""
    fields = {name: value for name, value, _, _ in recipe.describe()}
    own: dict[str, Any] = {}
    for name, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            for choice in distribution.choices:
                with contextlib.suppress(UsageError):
                    if recipe.changed(**{name: choice}) == recipe:
                        own[name] = choice
        else:
            low, high = _ends(distribution)
            if low <= fields[name] <= high:
                own[name] = fields[name]
    return own if own.keys() == space.keys() else None
