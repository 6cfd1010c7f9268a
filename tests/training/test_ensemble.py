"""Ensembles: their weights, their logits, and that whatever takes a run takes them."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from idx import write_idx_set
from sklearn.metrics import log_loss

from fmnist.cli.runs import show_run
from fmnist.data.load import load_data
from fmnist.errors import RunError, UsageError
from fmnist.exports.export import export
from fmnist.recipes.networks.ensemble import Ensemble
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import recipe
from fmnist.reports.report import write_report
from fmnist.runs.reproduce import training_command
from fmnist.runs.run import Run
from fmnist.scoring.compare import open_subject
from fmnist.scoring.evaluate import compile_forward, evaluate, load_model
from fmnist.scoring.figures import probabilities
from fmnist.scoring.verify import verify
from fmnist.training.ensemble import ensemble, files, fit_weights
from fmnist.training.progress import Progress
from fmnist.training.train import resume, train

SMALL = {
    "model.filters": "6",
    "model.pool_after": "1",
    "batch_size": 50,
    "precision": "float32",
    "epochs": 2,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_data(write_idx_set(tmp_path_factory.mktemp("data"), train=480, height=12, width=12))


@pytest.fixture(scope="module")
def members(data, tmp_path_factory):
    """Two runs of different networks and views."""
    folder, quiet = tmp_path_factory.mktemp("runs"), Progress("none")
    recipes = (
        recipe("quick", **SMALL, views="shift"),
        recipe("reference", **{**SMALL, "model.filters": "4"}, **{"model.dense_units": 0}, crop=1),
    )
    return [train(r, data, folder / r.name, progress=quiet) for r in recipes]


@pytest.fixture(scope="module")
def made(members, data):
    run = ensemble(members, members[0].path.with_name("both"))
    evaluate(run, data.val)
    return run


def test_the_weights_are_those_of_the_least_cross_entropy():
    """Also where a member is no use, and where all are half as sure as they should be."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 300)
    skill = np.array([0.5, 2.0, 1.5, -1.0])[:, None, None]
    logits = (random.normal(size=(4, 300, 4)) + skill * np.eye(4)[labels]) / 2
    found = fit_weights(logits, labels)

    def entropy(weights):
        chance = probabilities(np.einsum("m,mnc->nc", weights, logits))
        return log_loss(labels, chance)

    for _ in range(200):  # convex: nothing near by is better, so nothing is
        near = np.maximum(found + random.normal(scale=0.02, size=4), 0)
        assert entropy(found) <= entropy(near) + 1e-7
    assert found[3] == 0
    assert found[1] > found[2] > found[0] > 0
    assert found.sum() > 2


def test_its_logits_are_the_weighted_sum(members, made, data):
    images = data.val.images[:30]
    expected = 0
    for run, weight in zip(members, made.recipe.options.weights, strict=True):
        model, about = load_model(run)
        forward = compile_forward(model, about["mean"], about["deviation"])
        expected = expected + weight * forward(images)
    model, about = load_model(made)
    logits = compile_forward(model, about["mean"], about["deviation"])(images)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_whatever_takes_a_run_takes_it(members, made, data, tmp_path):
    assert made.finished
    assert made.recipe.views == "shift"
    assert made.env["parameters"] == sum(run.env["parameters"] for run in members)
    kept = made.recipe
    assert Recipe.from_json(json.loads(json.dumps(kept.to_json()))) == kept
    assert kept.options.parameters((12, 12, 1), 10) == made.env["parameters"]
    seconds = sum(run.metrics()[-1]["seconds"] for run in members)
    assert made.metrics()[-1]["seconds"] == pytest.approx(seconds, abs=1e-3)
    assert verify(made, data).passed
    exported = export(made, data=data, storage="int8", out=tmp_path / "small")
    named = [member["run"] for member in Run(exported.folder).env["members"]]
    assert named == [run.name for run in members]  # a stranger has no use for this machine's paths
    assert exported.accuracy == pytest.approx(made.scores["val"]["accuracy"], abs=0.1)
    assert training_command(made).split()[1:] == [
        "ensemble",
        *(str(run.path.resolve()) for run in members),
    ]
    written = write_report([made], "val", data, tmp_path / "page.html")
    assert written["runs"][0]["accuracy"] == made.scores["val"]["accuracy"]
    about = open_subject([made], "val").describe()
    assert about["accuracy"] == made.scores["val"]["accuracy"]


def test_it_is_described_without_a_training_that_it_never_had(members, made, capsys):
    fields = [name for name, *_ in made.recipe.describe()]
    assert fields == [
        "name",
        "model",
        "model.members",
        "model.weights",
        "views",
        "fit_on",
        "precision",
    ]
    show_run(made)
    said = capsys.readouterr().out
    assert "2 members trained in" in said
    assert "learning_rate" not in said
    assert "epoch" not in said
    show_run(members[0])
    said = capsys.readouterr().out
    assert "learning_rate=" in said
    assert "epoch  update" in said


def test_the_plain_mean_where_asked_or_where_val_was_trained_on(members, data, tmp_path):
    run = ensemble(members, tmp_path / "equal", equal=True)
    assert run.recipe.options.weights == (0.5, 0.5)
    small = recipe("quick", **{**SMALL, "epochs": 1}, fit_on="all")
    two = [
        train(small.changed(seed=i), data, tmp_path / f"{i}", progress=Progress("none"))
        for i in range(2)
    ]
    assert ensemble(two, tmp_path / "two").recipe.options.weights == (0.5, 0.5)
    with pytest.raises(UsageError, match="same images"):
        ensemble([members[0], two[0]], tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()


def test_what_cannot_be_an_ensemble_is_refused(members, made, data, tmp_path):
    with pytest.raises(UsageError, match="two or more"):
        ensemble(members[:1], tmp_path / "one")
    twin = Run(shutil.copytree(members[0].path, tmp_path / "twin"))
    for same in (Run(members[0].path), twin):
        with pytest.raises(UsageError, match="different weights"):
            ensemble([members[0], same], tmp_path / "twice")
    shutil.rmtree(twin)
    with pytest.raises(UsageError, match="received an ensemble"):
        ensemble([members[0], made], tmp_path / "nested")
    with pytest.raises(RunError, match="exists already"):
        ensemble(members, made.path)
    with pytest.raises(UsageError, match="fmnist ensemble"):
        train(made.recipe, data, tmp_path / "trained")
    with pytest.raises(UsageError, match="2 to 32"):
        recipe("quick", model="ensemble")
    assert not any(tmp_path.iterdir())


def test_half_an_ensemble_is_no_run_and_is_not_trained(members, made, data, tmp_path, monkeypatch):
    def killed(path, arrays, metadata):
        assert path.parent.is_dir()
        assert not (path.parent / "recipe.json").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "save_arrays", killed)
        with pytest.raises(KeyboardInterrupt):
            ensemble(members, tmp_path / "half")
    assert not (tmp_path / "half").exists()
    half = Run(shutil.copytree(made.path, tmp_path / "half"))
    half.weights_path.unlink()
    with pytest.raises(UsageError, match="fmnist ensemble"):
        resume(half, data)


@pytest.mark.parametrize(
    "altered",
    [
        {"members": []},
        {"members": "ab"},
        {"members": [1, 2]},
        {"weights": [0.5]},
        {"weights": [2, -1]},
        {"weights": [0, 0]},
        {"weights": [1, 1e9]},
        {"weights": ["a", "b"]},
        {"weights": None},
    ],
)
def test_a_strangers_recipe_is_checked(made, altered):
    kept = made.recipe_json
    with pytest.raises(UsageError):
        Recipe.from_json(kept | {"model": kept["model"] | altered})
    nested = kept
    for _ in range(300):  # refused before it is gone through
        nested = kept | {"model": kept["model"] | {"members": [nested, nested]}}
    with pytest.raises(UsageError, match="single networks"):
        Recipe.from_json(nested)
    member = Recipe.from_json(kept).options.members[0]
    with pytest.raises(UsageError):
        dataclasses.replace(Ensemble((member, member), (0.5, 0.5)), members=(member,))
