"""Exports as their own programs run them: the same answers as the run's, or no file at all."""

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from disk import files_limited_to
from idx import write_idx_set
from safetensors.numpy import load_file
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

import fmnist
from fmnist import files
from fmnist.cli.export import show_export
from fmnist.data.load import load_data
from fmnist.errors import FmnistError, RunError, UsageError
from fmnist.exports import export as exports
from fmnist.exports import onnx_graph, outcome, portable
from fmnist.inference.classifier import DOUBT
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import recipe
from fmnist.recipes.text import VIEWS
from fmnist.runs.run import Run
from fmnist.scoring.calibration import COLDEST, HOTTEST, fit_doubt, fit_temperature
from fmnist.scoring.evaluate import compile_forward, evaluate, load_model
from fmnist.scoring.figures import score_logits
from fmnist.scoring.views import predict_logits
from fmnist.training.ensemble import ensemble
from fmnist.training.progress import Progress
from fmnist.training.train import train

SMALL = {
    "model.filters": "6,6,8,8",
    "model.pool_after": "2,3",
    "batch_size": 50,
    "precision": "float32",
    "epochs": 3,
}
SIDES = 13, 12  # odd and not square, so that no axis passes for another


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    height, width = SIDES
    place = tmp_path_factory.mktemp("data") / "blocks"
    return write_idx_set(place, train=480, height=height, width=width, classes=5)


@pytest.fixture(scope="module")
def data(folder):
    return load_data(folder)


def trained(chosen, data, path):
    return train(chosen, data, path, progress=Progress("none"))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A compact network with a fixed stem, a shortcut, and pooling between convolution and norm."""
    chosen = recipe("quick", **SMALL, **{"model.shortcuts": "4"}, label_smoothing=0.3)
    return trained(chosen, data, tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    chosen = recipe("reference", **SMALL, **{"model.dense_units": 9}, crop=1)
    return trained(chosen, data, tmp_path_factory.mktemp("runs") / "plain")


@pytest.fixture(scope="module")
def wide(data, tmp_path_factory):
    """Norms before their convolutions, strides and 1×1 kernels, on images with an odd side."""
    settings = {key: SMALL[key] for key in ("batch_size", "precision", "epochs")}
    chosen = recipe("strong-gpu", **settings, cutout=4, **{"model.depth": 10, "model.width": 1})
    return trained(chosen, data, tmp_path_factory.mktemp("runs") / "wide")


def logits_of(run, images):
    """The run's own, in one view."""
    model, about = load_model(run)
    forward = compile_forward(model, about["mean"], about["deviation"])
    return predict_logits(forward, images)


def answers(path, images):
    """Logits and probabilities of an ONNX file by a plain session of onnxruntime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits", "probabilities"], {"images": images[..., 0]})


# the temperature


def test_the_temperature_is_that_of_the_least_cross_entropy():
    random = np.random.default_rng(0)
    for factor in (0.3, 1.0, 6.0):
        labels = random.integers(0, 5, 400)
        logits = (random.normal(size=(400, 5)) + 1.2 * np.eye(5)[labels]).astype(np.float32)

        def entropy(temperature, logits=logits * factor, labels=labels):
            chance = log_softmax(logits.astype(float) / temperature, axis=1)
            return -chance[np.arange(len(labels)), labels].mean()

        best = minimize_scalar(
            entropy, bounds=(0.01, 50), method="bounded", options={"xatol": 1e-8}
        )
        found = fit_temperature(logits * factor, labels)
        assert found == pytest.approx(best.x, rel=1e-4)


def test_a_temperature_without_an_end_stays_within_bounds():
    labels = np.arange(40) % 4
    assert fit_temperature(np.eye(4)[labels], labels) == COLDEST
    assert fit_temperature(-np.eye(4)[labels], labels) == HOTTEST


def test_doubt_leaves_two_answers_in_a_hundred_wrong():
    random = np.random.default_rng(4)
    chance = random.uniform(0.3, 1, 1000).astype(np.float32)
    right = random.random(1000) < 0.8
    doubt = fit_doubt(chance, right)
    wrong_from = [(~right & (chance >= mark)).mean() for mark in (doubt, doubt - 1e-6)]
    assert wrong_from == [0.02, 0.021]
    assert fit_doubt(chance, chance > 0.5) == DOUBT  # below a half nobody would be sure
    assert fit_doubt(chance, np.ones(1000, bool)) == DOUBT
    assert fit_doubt(np.ones(9, np.float32), np.zeros(9, bool)) == 1


# the network


@pytest.mark.parametrize("name", ["run", "plain", "wide"])
def test_the_portable_network_gives_the_same_logits(name, data, request):
    run = request.getfixturevalue(name)
    model, about = load_model(run)
    made = portable.build(model, run.recipe, about, 0.5)
    assert all(type(layer).__module__.startswith("keras.") for layer in made.layers)
    given = made(data.val.images[..., 0])
    logits, chance = (np.asarray(given[key]) for key in ("logits", "probabilities"))
    np.testing.assert_allclose(logits, logits_of(run, data.val.images), atol=2e-4)
    np.testing.assert_allclose(chance, softmax(logits / 0.5, axis=1), atol=1e-5)


def test_a_norm_that_turns_the_order_round_stays_behind_the_pooling(run, data, tmp_path):
    """The highest value times a negative scale is the lowest, so it is not folded; others are."""
    model, about = load_model(run)
    for layer in model.layers:
        if layer.name.startswith("batch_norm"):
            signs = np.where(np.arange(layer.gamma.shape[0]) % 2, -1.0, 1.0)
            layer.gamma.assign(layer.gamma.value * signs)
    made = portable.build(model, run.recipe, about)
    norms = [layer.name for layer in made.layers if layer.name.startswith("batch_norm")]
    assert norms == ["batch_norm_1", "batch_norm_2"]
    images = data.val.images
    forward = compile_forward(model, about["mean"], about["deviation"])
    onnx_graph.save(made, tmp_path / "m.onnx", "float32", images[..., 0])
    logits, _ = answers(tmp_path / "m.onnx", images)
    np.testing.assert_allclose(logits, forward(images), atol=2e-4)


@pytest.mark.parametrize(
    ("name", "convolutions", "norms"),
    # Of a wide network's block the second norm is folded, the first one's input goes elsewhere too.
    [("run", 1 + 4, 0), ("plain", 4, 0), ("wide", 1 + 3 * 2 + 2, 3 + 1)],
)
def test_the_graph_has_an_operator_a_layer_and_turns_nothing_round(
    name, convolutions, norms, request
):
    run = request.getfixturevalue(name)
    model, about = load_model(run)
    graph = onnx_graph.convert(portable.build(model, run.recipe, about)).graph
    kinds = [node.op_type for node in graph.node]
    assert not {"Transpose", "Unsqueeze", "Identity"} & {*kinds}  # OpenCV's wants n known
    assert kinds.count("Reshape") == 1
    assert kinds.count("Conv") == convolutions
    assert kinds.count("BatchNormalization") == norms
    shape = graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["n", *SIDES]


# the files


def require_said(text, names, data, takes):
    """What a file says of itself: what it takes, and the classes by number."""
    for part in (takes, "0 to 255, grey", "logits and probabilities, float32 (n, 5)"):
        assert part in text
    assert {int(number): name for number, name in names.items()} == dict(enumerate(data.classes))


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", ["run", "plain", "wide"])
def test_an_onnx_file_answers_as_the_run_does(name, storage, data, tmp_path, request, capsys):
    run = request.getfixturevalue(name)
    made = exports.export(run, "onnx", data, storage=storage, out=tmp_path / "out")
    path, images = tmp_path / "out" / "model.onnx", data.val.images
    assert made.parts == ["model.onnx"]
    assert made.size == path.stat().st_size
    before = logits_of(run, images)
    logits, chance = answers(path, images)
    difference = {"float32": 2e-4, "float16": 0.03, "int8": 0.6}[storage]
    assert np.abs(logits - before).max() == pytest.approx(made.largest_difference, abs=1e-4)
    assert made.largest_difference <= difference * max(1, np.abs(before).max() / 3)
    np.testing.assert_allclose(
        chance, softmax(logits.astype(float) / made.temperature, axis=1), atol=1e-5
    )
    right = (logits.argmax(axis=1) == data.val.labels).sum()
    assert (made.split, made.n, made.accuracy) == ("val", 40, right / 40)
    assert (made.views, run.recipe.views) == ("one", "flip" if name != "wide" else "shift")
    said = f"{run.scores['val']['accuracy']:.2%} on these images by the {VIEWS[run.recipe.views]}"
    limits = files.read_json(tmp_path / "out" / "card.json")["limits"]
    assert any("It answers by one view. " in limit and said in limit for limit in limits)
    show_export(made, run)
    printed = capsys.readouterr().out
    assert f"val {made.accuracy:.2%}, one view (n=40" in printed
    assert f"the run scores {run.scores['val']['accuracy']:.2%} by the mean over" in printed
    assert made.before == (before.argmax(axis=1) == data.val.labels).mean()
    assert answers(path, images[:1])[0].shape == (1, 5)
    about = json.loads({p.key: p.value for p in onnx.load(path).metadata_props}["fmnist"])
    assert about["classes"] == list(data.classes)
    assert about["shape"] == [*SIDES, 1]
    assert about["temperature"] == made.temperature
    assert about["temperature"] == pytest.approx(fit_temperature(before, data.val.labels))
    require_said(
        onnx.load(path).doc_string,
        ast.literal_eval({p.key: p.value for p in onnx.load(path).metadata_props}["names"]),
        data,
        "uint8 (n, 13, 12)",
    )
    floats = {
        t.name for t in onnx.load(path).graph.initializer if t.data_type == 1 and len(t.dims) == 4
    }
    assert bool(floats) == (storage == "float32")


def test_the_card_says_what_the_file_scores(run, data, tmp_path):
    made = exports.export(run, "onnx", data, out=tmp_path)  # into a folder that is there
    card = files.read_json(tmp_path / "card.json")
    path = tmp_path / "model.onnx"
    assert (card["file"], card["bytes"]) == ("model.onnx", path.stat().st_size)
    assert card["sha256"] == files.sha256(path)
    logits, _ = answers(path, data.val.images)
    score = score_logits(logits / made.temperature, data.val.labels, data.classes, "val")
    said = card["scores"]["val"]
    assert said["correct"] == score.correct
    assert said["interval"] == pytest.approx(score.interval)
    assert said["by_class"] == score.per_class
    assert said["expected_calibration_error"] == pytest.approx(score.expected_calibration_error)
    assert said["runtime"] == f"onnxruntime {onnxruntime.__version__}"
    wide = logits.astype(float)
    energy = logsumexp(wide - wide.mean(axis=1, keepdims=True), axis=1)
    assert card["outlier"]["threshold"] == pytest.approx(np.quantile(energy, 0.01), abs=1e-4)
    assert (card["outlier"]["split"], card["outlier"]["n"]) == ("val", 40)
    assert card["storage"] == "float16"
    assert card["parameters"] == run.env["parameters"]
    assert card["calibrated_on"] == "val (n=40)"
    assert card["latency"]["milliseconds"] > 0
    assert (card["input"]["shape"], card["input"]["dtype"]) == (["n", *SIDES], "uint8")
    assert card["outputs"]["probabilities"]["shape"] == ["n", 5]
    assert card["names"] == {str(i): name for i, name in enumerate(data.classes)}
    assert card["weights"] == files.sha256(run.weights_path)
    assert card["data"]["hash"] == data.hash
    assert Recipe.from_json(card["recipe"]) == run.recipe
    page = (tmp_path / "card.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert card["sha256"] in page
    assert not re.search(r"<script|<link|src=|url\((?!#)", page)  # it loads nothing


def test_a_name_in_the_data_cannot_write_into_the_page(run, data, tmp_path):
    path = tmp_path / "hostile"
    subprocess.run(["cp", "-r", run.path, path], check=True)
    names = ["<script>alert(1)</script>", "b", "c", "d", "e"]
    hostile = Run(path)
    hostile.change_env(classes=names)
    hostile.save_weights(hostile.load_weights(), hostile.about_weights() | {"classes": names})
    exports.export(hostile, "onnx", data, out=tmp_path / "out")
    page = (tmp_path / "out" / "card.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_a_litert_file_answers_as_the_run_does(run, storage, data, tmp_path, capfd):
    made = exports.export(run, "litert", data, storage=storage, out=tmp_path)
    assert capfd.readouterr().err == ""  # its interpreter greets at the first answer
    assert made.parts == ["model.tflite"]
    assert made.largest_difference <= {"float16": 0.05, "int8": 1.0}[storage]
    assert made.accuracy >= made.before - outcome.ALLOWED
    assert files.read_json(tmp_path / "card.json")["file"] == "model.tflite"
    with zipfile.ZipFile(tmp_path / "model.tflite") as inside:
        said = json.loads(inside.read("metadata.json"))
        assert inside.read("labels.txt").decode().split() == list(data.classes)
    require_said(said["description"], said["names"], data, "uint8 (n, 13, 12)")


def test_a_keras_file_has_nothing_of_fmnist_in_it(run, data, tmp_path):
    made = exports.export(run, "keras", data, out=tmp_path)
    assert made.storage == "float32"
    assert made.largest_difference < 1e-3
    with zipfile.ZipFile(tmp_path / "model.keras") as parts:
        config = parts.read("config.json").decode()
        said = json.loads(parts.read("metadata.json"))
    assert set(re.findall(r'"module": "(\w+)', config)) == {"keras"}
    assert "fmnist>" not in config
    # An earlier Keras refuses a layer's option that it does not know.
    assert not [key for key in ("input_axes", "quantization_config", '"ragged"') if key in config]
    require_said(said["description"], said["names"], data, "float32 (n, 13, 12, 1)")
    images, expected = data.val.images, logits_of(run, data.val.images)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for given in (images, images[..., 0], images.astype(np.float64)):
        np.testing.assert_allclose(np.asarray(loaded(given)["logits"]), expected, atol=2e-4)
    _, accuracy = loaded.evaluate(images, data.val.labels, verbose=0)
    assert accuracy == pytest.approx((expected.argmax(axis=1) == data.val.labels).mean())
    # Keras casts what it is given, and has no layer that raises; it must not look like an answer.
    floats = images.astype(np.float32)
    for wrong in (floats / 255, floats / 127.5 - 1, floats + 256):
        answer = loaded.predict(wrong, verbose=0)["probabilities"]
        assert np.isnan(answer).all()


def test_a_folder_for_the_hub(run, data, tmp_path):
    out = tmp_path / "out"
    made = exports.export(run, "huggingface", data, out=out)
    made = exports.export(run, "huggingface", data, out=out, storage="float32", replace=True)
    assert {path.name for path in out.iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "model.onnx", "card.json", "card.html")
    }
    assert made.parts == ["model.onnx", "model.safetensors"]
    assert made.size == sum((out / part).stat().st_size for part in made.parts)
    _, front, text = (out / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(front)
    assert (facts["license"], facts["pipeline_tag"]) == ("other", "image-classification")
    (result,) = facts["model-index"][0]["results"]
    assert result["dataset"] == {"name": data.name, "type": data.name, "split": "val"}
    assert result["metrics"] == [{"type": "accuracy", "value": made.accuracy}]
    assert f"{made.accuracy:.2%} of 40 val images" in text
    assert "uint8 (n, 13, 12)" in text
    arrays, config = load_file(out / "model.safetensors"), files.read_json(out / "config.json")
    for name, array in run.load_weights().items():
        np.testing.assert_array_equal(arrays[name], array)
    assert config["id2label"] == {str(i): name for i, name in enumerate(data.classes)}
    assert Recipe.from_json(config["recipe"]) == run.recipe
    assert fmnist.Classifier.load(out).classes == data.classes
    (out / "README.md").write_text("mine")
    with pytest.raises(UsageError, match=r"README\.md: expected a new name"):
        exports.export(run, "huggingface", data, out=out, replace=True)


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_a_file_that_flips_answers_by_the_mean_of_both_views(run, storage, data, tmp_path):
    made = exports.export(run, "onnx", data, storage=storage, views="flip", out=tmp_path / "two")
    exports.export(run, "onnx", data, storage=storage, out=tmp_path / "one")
    images = data.val.images
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    one = [answers(tmp_path / "one" / "model.onnx", each)[0] for each in (images, mirrored)]
    both, chance = answers(tmp_path / "two" / "model.onnx", images)
    close = {"atol": 1e-4} if storage == "float32" else {"atol": 0.15 * np.ptp(one[0])}
    np.testing.assert_allclose(both, (one[0] + one[1]) / 2, **close)
    wanted = softmax(both.astype(float) / made.temperature, axis=1)
    np.testing.assert_allclose(chance, wanted, atol=1e-5)
    sizes = [(tmp_path / each / "model.onnx").stat().st_size for each in ("two", "one")]
    assert sizes[0] - sizes[1] < 2000  # the weights are there once
    card = files.read_json(tmp_path / "two" / "card.json")
    assert (made.views, card["scores"]["val"]["views"]) == ("flip", "flip")
    for first in (images[:1], images[:3]):
        few = answers(tmp_path / "two" / "model.onnx", first)[0]
        np.testing.assert_allclose(few, both[: len(first)], atol=1e-4)


def test_an_ensemble_is_one_file(run, plain, data, tmp_path):
    both = ensemble([run, plain], tmp_path / "both")
    made = exports.export(both, "onnx", data, storage="float32", out=tmp_path / "out")
    logits, _ = answers(tmp_path / "out" / "model.onnx", data.val.images)
    first, second = (logits_of(each, data.val.images) for each in (run, plain))
    weights = both.recipe.options.weights
    np.testing.assert_allclose(logits, weights[0] * first + weights[1] * second, atol=1e-3)
    assert made.changed == 0


# a run on all images


@pytest.fixture(scope="module")
def on_all(data, tmp_path_factory):
    chosen = recipe("quick", **SMALL, **{"model.shortcuts": "4"}, fit_on="all", seed=1)
    run = trained(chosen, data, tmp_path_factory.mktemp("runs") / "all")
    evaluate(run, data.test)
    return run


def test_a_run_on_all_images_takes_a_siblings_temperature(run, on_all, data, tmp_path):
    made = exports.export(on_all, "onnx", data, out=tmp_path / "none")
    card = files.read_json(tmp_path / "none" / "card.json")
    assert (made.temperature, made.split, card["temperature"]) == (1.0, "test", 1.0)
    assert card["calibrated_on"].startswith("nothing")
    assert card["outlier"]["split"] == "train"
    made = exports.export(on_all, "onnx", data, out=tmp_path / "taken", calibrate=run)
    logits = logits_of(run, data.val.images)
    assert made.temperature == pytest.approx(fit_temperature(logits, data.val.labels))
    card = files.read_json(tmp_path / "taken" / "card.json")
    assert card["calibrated_on"].startswith("val (n=40) of first")
    logits, _ = answers(tmp_path / "taken" / "model.onnx", data.test.open().images)
    centred = logits.astype(float) - logits.mean(axis=1, keepdims=True)
    unlike = logsumexp(centred, axis=1) < card["outlier"]["threshold"]
    assert card["outlier"]["test_false_alarm"] == pytest.approx(unlike.mean(), abs=0.02)


def test_an_export_opens_no_test_that_its_run_was_not_scored_on(on_all, data, tmp_path):
    """It is scored on val, and the card says where the run has learnt those images."""
    path = tmp_path / "runs" / "new"
    path.parent.mkdir()
    subprocess.run(["cp", "-r", on_all.path, path], check=True)
    (path / "score.json").unlink()
    (path / "test_logits.npz").unlink()
    run = Run(path)
    made = exports.export(run, "onnx", data, out=tmp_path / "val")
    assert (made.split, run.ledger.path.exists()) == ("val", False)
    assert "trained on the images that it was scored on" in (tmp_path / "val/card.html").read_text()
    with pytest.raises(RunError, match="was not scored on test; fmnist evaluate"):
        exports.export(run, data=data, out=tmp_path / "shared")
    assert run.times_opened() == 0
    evaluate(run, data.test)
    exports.export(run, "onnx", data, out=tmp_path / "test")
    exports.export(run, data=data, out=tmp_path / "shared")
    lines = files.read_lines(run.ledger.path)
    assert [(line["kind"], line["run"]) for line in lines] == [
        ("score", "new"),
        ("export", "new"),
        ("export", "new"),
    ]
    assert {line["weights"] for line in lines} == {files.sha256(run.weights_path)}
    card = files.read_json(tmp_path / "test" / "card.json")
    counts = card["scores"]["test"]["times_opened"], Run(tmp_path / "shared").times_opened()
    assert (run.times_opened(), *counts) == (1, 1, 1)
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_temperature_of_another_kind_is_refused(run, plain, on_all, data, tmp_path):
    for of, source, expected in (
        (run, on_all, "has val images of its own"),
        (on_all, plain, "expected a run of the same network"),
        (on_all, on_all, "that kept val apart"),
    ):
        with pytest.raises(UsageError, match=expected):
            exports.export(of, "onnx", data, out=tmp_path / "out", calibrate=source)
    with pytest.raises(UsageError, match="holds no temperature"):
        exports.export(on_all, data=data, out=tmp_path / "out", calibrate=run)
    assert not [*tmp_path.iterdir()]


# what is refused


def test_what_is_worse_than_the_bound_leaves_nothing(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(outcome, "ALLOWED", -1.0)
    monkeypatch.setattr(outcome, "FEW", -(10**6))
    for form in ("onnx", "keras"):
        with pytest.raises(FmnistError, match=r"nothing was exported; .* --allow-loss 0"):
            exports.export(run, form, data, out=tmp_path / "out")
    assert not [*tmp_path.iterdir()]
    for loss in (-1, 101, float("nan")):
        with pytest.raises(UsageError, match="expected 0 to 100 points"):
            exports.export(run, "onnx", data, out=tmp_path / "out", allow_loss=loss)


def test_a_loss_that_is_named_is_allowed_and_the_card_says_it(run, data, tmp_path):
    """A feature that weighs the same, and much, for all classes: int8 has no steps for the rest."""
    path = tmp_path / "coarse"
    subprocess.run(["cp", "-r", run.path, path], check=True)
    coarse = Run(path)
    arrays, about = coarse.load_weights(), coarse.about_weights()
    (name,) = [name for name, array in arrays.items() if array.ndim == 2]
    arrays[name][0] += 1000
    coarse.save_weights(arrays, about)
    with pytest.raises(FmnistError, match=r"points less .* --allow-loss") as error:
        exports.export(coarse, "safetensors", data, storage="int8", out=tmp_path / "out")
    named = float(str(error.value).rpartition(" ")[2])
    made = exports.export(
        coarse, "safetensors", data, storage="int8", out=tmp_path / "out", allow_loss=named
    )
    assert named - 0.1 <= 100 * (made.before - made.accuracy) <= named
    card = files.read_json(tmp_path / "out" / "card.json")
    assert card["scores"]["val"]["accuracy_of_the_run"] == made.before
    assert any("Its stored form costs" in limit for limit in card["limits"])


@pytest.mark.parametrize("form", ["onnx", "keras"])
def test_a_full_disk_is_one_line_and_leaves_nothing(run, data, tmp_path, form):
    with files_limited_to(3000), pytest.raises(FmnistError, match="could not be written") as said:
        exports.export(run, form, data, out=tmp_path / "out")
    assert "\n" not in str(said.value)
    assert not [*tmp_path.iterdir()]


def test_what_is_there_stays_unless_it_is_an_export_to_be_replaced(run, data, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "card.json").write_text("mine")
    for replace in (False, True):
        with pytest.raises(UsageError, match=r"exists already|card\.json: expected a new name"):
            exports.export(run, "onnx", data, out=tmp_path, replace=replace)
        assert (tmp_path / "card.json").read_text() == "mine"
    (tmp_path / "card.json").unlink()
    for _ in range(2):
        exports.export(run, "onnx", data, out=tmp_path, replace=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert files.read_json(tmp_path / "card.json")["sha256"] == files.sha256(
        tmp_path / "model.onnx"
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "notes.txt",
        "card.json",
        "card.html",
        "model.onnx",
    }


def test_a_folder_that_cannot_be_is_refused_in_a_line(run, data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FmnistError, match=r"file.*could not be made") as stop:
        exports.export(run, "onnx", data, out=tmp_path / "file" / "inside")
    assert "\n" not in str(stop.value)
    with pytest.raises(FmnistError, match="file: expected a folder, found something else"):
        exports.export(run, "onnx", data, out=tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("form", "options", "expected"),
    [
        ("onxx", {}, "expected one of safetensors, onnx, litert, keras, huggingface"),
        ("keras", {"storage": "int8"}, "expected one of float32 for keras"),
        ("onnx", {"storage": "float8"}, "expected one of float32, float16, int8 for onnx"),
        ("onnx", {"part_size": 10**6}, "only safetensors is cut"),
        ("safetensors", {"replace": True}, "never written over"),
        ("keras", {"views": "flip"}, "flip is for onnx and huggingface"),
        ("onnx", {"views": "shift"}, "expected one or flip"),
        ("safetensors", {"photos": "photos"}, "holds no mark of doubt"),
    ],
)
def test_what_a_format_does_not_have_is_refused(run, data, tmp_path, form, options, expected):
    with pytest.raises(UsageError, match=expected):
        exports.export(run, form, data, out=tmp_path / "out", **options)
    assert not [*tmp_path.iterdir()]


def test_weights_without_numbers_are_refused(run, data, tmp_path):
    path = tmp_path / "bad"
    subprocess.run(["cp", "-r", run.path, path], check=True)
    bad = Run(path)
    arrays, about = bad.load_weights(), bad.about_weights()
    bad.save_weights({k: a * np.float32(np.nan) for k, a in arrays.items()}, about)
    with pytest.raises(RunError, match="expected weights that give finite logits"):
        exports.export(bad, "onnx", data, storage="float32", out=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["bad"]


def test_jax_exports_what_does_not_need_tensorflow(run, data, folder, tmp_path):
    """ONNX and Keras files come from either engine; LiteRT's converter is TensorFlow's."""
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import fmnist; from fmnist.errors import UsageError\n"
        f"data, run = fmnist.load_data({str(folder)!r}), {str(run.path)!r}\n"
        f"made = fmnist.export(run, 'onnx', data, out={str(tmp_path)!r})\n"
        "try: fmnist.export(run, 'litert', data, out='nowhere')\n"
        "except UsageError as error: print(made.changed, error)"
    )
    env = os.environ | {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 litert: expected TensorFlow"), done.stdout
    logits, _ = answers(tmp_path / "model.onnx", data.val.images)
    np.testing.assert_allclose(logits, logits_of(run, data.val.images), atol=0.03)


def test_the_public_name_loads_the_runs_data(run, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = fmnist.export(run, "onnx")
    assert Path(made.folder) == Path("exports/first-onnx-float16")
    assert (Path(made.folder) / "model.onnx").is_file()
