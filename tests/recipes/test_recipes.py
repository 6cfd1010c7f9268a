"""Recipes: what they hold, what they refuse, and the two languages in which they are written."""

import contextlib
import dataclasses
import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist.errors import UsageError
from fmnist.recipes.networks import NETWORKS
from fmnist.recipes.recipe import SCHEMA, Recipe
from fmnist.recipes.shipped import RECIPES, changes_of, parse_settings, recipe

FIELDS = [field for field in dataclasses.fields(Recipe) if field.name != "options"]
SETTABLE = [name for name, *_ in recipe("reference").describe() if name != "name"]

plain_options = st.lists(st.integers(1, 8192), min_size=1, max_size=64).flatmap(
    lambda filters: st.fixed_dictionaries(
        {
            "model.filters": st.just(tuple(filters)),
            "model.pool_after": st.sets(st.integers(1, len(filters))).map(sorted).map(tuple),
            "model.dense_units": st.integers(0, 65536),
            "model.dropout": st.floats(0, 1, exclude_max=True),
        }
    )
)
changes = st.builds(
    lambda options, rest: options | rest,
    plain_options,
    st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(1, 100_000),
            "batch_size": st.integers(1, 65_536),
            "optimizer": st.sampled_from(["muon", "adamw"]),
            "learning_rate": st.floats(0, 1000),
            "label_smoothing": st.floats(0, 0.99),
            "flip": st.booleans(),
            "fit_on": st.sampled_from(["train", "all"]),
            "seed": st.integers(0, 2**31 - 1),
        },
    ),
)


def as_setting(value):
    """A value as a person would type it after --set NAME=."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value) if isinstance(value, float) else str(value)


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_is_a_lab_card(name):
    made = recipe(name)
    assert made.name == name
    assert made == RECIPES[name]()
    card = RECIPES[name].__doc__
    assert re.search(r"not recorded yet|records/|n=", card), "the card states its result"
    made.check_shape((28, 28, 1), 10)
    assert Recipe.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("name", RECIPES)
def test_describe_documents_every_field_once(name):
    made = recipe(name)
    rows = made.describe()
    names = [row[0] for row in rows]
    options = [f"model.{field.name}" for field in dataclasses.fields(made.options)]
    assert sorted(names) == sorted([field.name for field in FIELDS] + options)
    for field, value, unit, meaning in rows:
        owner = made.options if field.startswith("model.") else made
        assert value == getattr(owner, field.removeprefix("model."))
        assert len(meaning) > 8, field
        assert isinstance(unit, str)


def test_every_option_of_every_model_is_documented():
    for kind in NETWORKS.values():
        for field in dataclasses.fields(kind):
            assert field.metadata["meaning"], (kind, field.name)


@pytest.mark.parametrize("name", RECIPES)
def test_what_describe_shows_can_be_set(name):
    made = recipe(name)
    settings = [
        f"{field}={as_setting(value)}" for field, value, *_ in made.describe() if field != "name"
    ]
    assert recipe("reference", **parse_settings(settings)) == dataclasses.replace(
        made, name="reference"
    )


@given(changes)
def test_json_round_trip(values):
    made = recipe("reference", **values)
    text = json.dumps(made.to_json())
    assert json.loads(text)["schema"] == SCHEMA
    assert Recipe.from_json(json.loads(text)) == made


@given(changes)
def test_settings_say_the_same_as_values(values):
    settings = [f"{name}={as_setting(value)}" for name, value in values.items()]
    made = recipe("reference", **parse_settings(settings))
    assert made == recipe("reference", **values)
    for name, value in values.items():
        owner = made.options if name.startswith("model.") else made
        assert getattr(owner, name.removeprefix("model.")) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
field_names = st.sampled_from([name for name in SETTABLE if "." not in name] + ["name", "schema"])


@given(
    json_values
    | st.dictionaries(field_names | st.text(), json_values).map(
        lambda values: {"schema": SCHEMA, "model": {"name": "plain"}} | values
    )
)
def test_a_strangers_json_gives_a_recipe_or_a_usage_error(values):
    with contextlib.suppress(UsageError):
        made = Recipe.from_json(values)
        assert Recipe.from_json(made.to_json()) == made


@given(
    st.dictionaries(
        st.sampled_from([n.removeprefix("model.") for n in SETTABLE if "." in n]), json_values
    )
)
def test_a_strangers_model_options_give_a_recipe_or_a_usage_error(options):
    values = {"schema": SCHEMA, "model": {"name": "plain"} | options}
    with contextlib.suppress(UsageError):
        made = Recipe.from_json(values)
        assert Recipe.from_json(made.to_json()) == made


@pytest.mark.parametrize("field", [name for name in SETTABLE if len(name.split(".")[-1]) > 4])
def test_an_unknown_key_names_the_nearest(field):
    with pytest.raises(UsageError, match=f"did you mean {re.escape(field)}\\?"):
        recipe("reference", **{field[:-1]: 1})
    if field == "model":  # an object in JSON, which is asked for first
        return
    values = recipe("reference").to_json()
    owner, name = (values["model"], field[6:]) if "." in field else (values, field)
    owner[name[:-1]] = owner.pop(name)
    with pytest.raises(UsageError, match=f"did you mean {re.escape(field)}\\?"):
        Recipe.from_json(values)


def test_an_unknown_key_like_none_lists_the_known():
    with pytest.raises(UsageError) as caught:
        recipe("reference", zzzzzz=1)
    assert all(name in str(caught.value) for name in SETTABLE)
    with pytest.raises(UsageError, match=", ".join(RECIPES)):
        recipe("zzzzzz")
    with pytest.raises(UsageError, match="did you mean reference"):
        recipe("refrence")


@pytest.mark.parametrize("field", ["name", "options", "schema"])
def test_what_is_no_setting_cannot_be_set(field):
    with pytest.raises(UsageError, match="unknown recipe field"):
        recipe("reference", **{field: "x"})


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("epochs=0", "1 to"),
        ("epochs=two", "a whole number"),
        ("epochs=1.5", "a whole number"),
        ("learning_rate=nan", "a number"),
        ("learning_rate=-1", "0 to"),
        ("learning_rate=inf", "0 to"),
        ("flip=perhaps", "yes or no"),
        ("warmup=1.1", "0 to 1"),
        ("optimizer=adam", "did you mean adamw"),
        ("model=plane", "did you mean plain"),
        ("model.filters=", "1 to 64 numbers"),
        ("model.filters=0", "from 1 to 8192"),
        ("model.filters=8,,8", "whole numbers separated by commas"),
        ("model.pool_after=5", "the number of convolutions"),
        ("model.pool_after=2,1", "rising"),
        ("model.dropout=1", r"\[0, 1\)"),
        ("model.dense_units=-1", "0 to 65536"),
        ("micro_batch=8", "no batch statistics"),
        ("seed=-1", "0 to"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_was_expected(setting, expected):
    name, _, value = setting.partition("=")
    with pytest.raises(UsageError, match=expected) as caught:
        recipe("reference", **parse_settings([setting]))
    assert value in str(caught.value).replace("(", "").replace(" ", "")
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "shortcuts",
    ["1", "3", "6", "2,2", "5"],  # the image, other widths, past the end, twice, pooled
)
def test_a_shortcut_between_unlike_shapes_is_refused(shortcuts):
    changes = {"model.filters": "8,8,16,16,16", "model.pool_after": "5"}
    assert recipe("quick", **changes, **{"model.shortcuts": "2,4"}).options.shortcuts == (2, 4)
    with pytest.raises(UsageError, match="keep the number of channels"):
        recipe("quick", **changes, **{"model.shortcuts": shortcuts})


@pytest.mark.parametrize("setting", ["epochs", "=4", "", "epochs:4"])
def test_a_setting_without_name_or_value_is_refused(setting):
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_settings([setting])


def test_settings_are_trimmed_and_may_hold_equal_signs():
    assert parse_settings([" epochs = 4 ", "a=b=c"]) == {"epochs": "4", "a": "b=c"}


def test_a_recipe_is_frozen_and_changed_makes_another():
    made = recipe("reference")
    other = made.changed(epochs=made.epochs + 1)
    assert (other.epochs, made.epochs) == (made.epochs + 1, recipe("reference").epochs)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.epochs = 3


def test_another_model_starts_from_its_own_options():
    for name, kind in NETWORKS.items():
        if name not in ("plain", "ensemble", "own"):  # the last two have no defaults
            assert recipe("reference", model=name).options == kind()


@pytest.mark.parametrize("name", ["", "../../elsewhere", "a/b", "a\0b", ".hidden", "x" * 100, 5])
def test_a_name_that_would_lead_a_run_folder_elsewhere_is_refused(name):
    with pytest.raises(UsageError, match="name: expected"):
        Recipe.from_json(recipe("reference").to_json() | {"name": name})


def test_images_too_small_or_too_few_classes_are_refused():
    deep = recipe("reference", **{"model.filters": (4,) * 4, "model.pool_after": (1, 2, 3, 4)})
    deep.check_shape((16, 31, 1), 2)
    with pytest.raises(UsageError, match=r"at least 16 pixels .* 4 times.*15×28"):
        deep.check_shape((15, 28, 1), 10)
    with pytest.raises(UsageError, match="at least 2 classes, received 1"):
        deep.check_shape((28, 28, 1), 1)
    with pytest.raises(UsageError, match="crop: expected less than the image's side of 8"):
        recipe("reference", crop=8).check_shape((8, 8, 1), 10)
    with pytest.raises(UsageError, match="cutout: expected at most 8"):
        recipe("reference", cutout=9).check_shape((8, 8, 1), 10)


def test_a_recipe_json_serves_as_a_name(tmp_path):
    made = recipe("reference", epochs=2)
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(made.to_json()))
    assert recipe(str(file)) == made
    assert recipe(str(file), seed=3) == made.changed(seed=3)
    file.write_text('{"model": {"name": "plain"}, "epochs": 2}')  # by hand
    assert recipe(str(file)) == Recipe(epochs=2)


def test_a_recipes_former_name_is_still_its_name(tmp_path):
    """As people type it, as runs and records hold it, and as a sweep's base."""
    made = recipe("reference", epochs=2)
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(made.to_json() | {"name": "seed"}))
    assert recipe("seed", epochs=2) == recipe(str(file)) == made
    assert changes_of(recipe(str(file))) == {"epochs": 2}
    assert "seed" not in RECIPES


def test_fields_of_older_runs_are_read_at_the_value_that_has_stayed():
    made = recipe("reference")
    older = made.to_json() | {"schedule": "linear"}
    assert Recipe.from_json(older) == made
    with pytest.raises(UsageError, match=r"schedule: expected linear, .* received 'cosine'"):
        Recipe.from_json(older | {"schedule": "cosine"})
    with pytest.raises(UsageError, match="unknown optimizer 'sgd'; known: adamw, muon"):
        Recipe.from_json(older | {"optimizer": "sgd"})
    model = {"name": "ensemble", "members": [older, older], "weights": [1, 1]}
    ensemble = Recipe.from_json(older | {"model": model, "optimizer": "sgd"})
    assert ensemble.options.members == (made, made)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff\xfe", b'{"schema": 99}'])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content):
    file = tmp_path / "recipe.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match="recipe"):
        recipe(str(file))


def test_recipes_need_neither_numpy_nor_keras():
    code = "import sys, fmnist.recipes.shipped; print({'numpy', 'keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
