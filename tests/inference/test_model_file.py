"""A run as a model: exported once, again where its weights changed, and never at test's expense."""

import contextlib
import io
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import call, own_process, refused
from PIL import Image
from tiny import QUIET, small

from fmnist.data.load import load_data
from fmnist.errors import RunError
from fmnist.files import read_json
from fmnist.inference.classifier import Classifier
from fmnist.inference.model_file import find_model
from fmnist.runs.run import Run
from fmnist.scoring.evaluate import compile_forward, load_model
from fmnist.serving.app import make_app
from fmnist.training.train import train


@pytest.fixture(scope="module")
def place(small_set, tmp_path_factory):
    """A folder with `runs/first`, which was trained on all images and never scored on test."""
    place = tmp_path_factory.mktemp("place")
    chosen = small(epochs=1, fit_on="all", precision="float32")
    train(chosen, load_data(small_set), place / "runs" / "first", progress=QUIET)
    return place


@pytest.fixture
def run(place, monkeypatch):
    monkeypatch.chdir(place)
    return Run("runs/first")


def without_export(run, to):
    """The run in a folder `to`, as it is before it is exported."""
    arrays, about = run.load_weights(), run.about_weights()
    made = Run.create(to, run.recipe, run.env)
    made.save_weights(arrays, about)
    return made


def test_a_run_is_exported_once_for_its_weights(run, small_set, capfd):
    Path("first").mkdir()  # is no run, and hides none
    images = load_data(small_set).val.images
    model, about = load_model(run)
    own = compile_forward(model, about["mean"], about["deviation"])(images)
    np.testing.assert_allclose(Classifier.load("first").logits(images), own, atol=1e-4)
    said = capfd.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("note: runs/first: is exported to runs/first/onnx/model.onnx")
    # Its training images are on no black ground, so that nothing is cut out of photos.
    stream = io.BytesIO()
    Image.fromarray(images[3, ..., 0]).save(stream, "PNG")
    classifier = Classifier.load("first")
    assert classifier.whole_photos
    photo = classifier.predict_photo(stream.getvalue())
    np.testing.assert_array_equal(photo, classifier.predict(images[3:4])[0])
    assert (
        "0 to 255, grey" in read_json(find_model("first").parent / "card.json")["input"]["values"]
    )
    written = find_model("first").stat().st_mtime_ns
    for name in ("runs/first", "latest", run, run.path.absolute()):
        np.testing.assert_allclose(Classifier.load(name).logits(images), own, atol=1e-4)
    photos = small_set / "t10k-images-idx3-ubyte.gz"
    done = call("predict", "--model", "latest", photos, "--json")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 60)
    make_app(Path("first"))
    card = read_json(find_model("first").with_name("card.json"))
    assert (card["scores"].keys(), card["classes"]) == ({"val"}, [*"0123456789"])
    assert any("trained on the images that it was scored on" in limit for limit in card["limits"])
    assert find_model("latest").stat().st_mtime_ns == written
    assert capfd.readouterr().err == ""
    assert not run.ledger.path.exists()  # test was not opened
    files = {path.name for path in Path("runs/first/onnx").iterdir()}
    assert files == {"model.onnx", "card.json", "card.html"}


def test_the_file_of_other_weights_is_not_taken(run, tmp_path, monkeypatch):
    shutil.copytree(run.path, tmp_path / "changed")
    changed = Run(tmp_path / "changed")
    monkeypatch.setitem(sys.modules, "keras", None)  # to export it again is all that is left
    assert find_model(changed) == changed.path / "onnx" / "model.onnx"
    for name in ("model.onnx", "card.json"):  # one of them alone, as a crash may leave it
        (changed.path / "onnx" / name).rename(tmp_path / name)
        with pytest.raises(RunError, match="Keras is not installed"):
            find_model(changed)
        (tmp_path / name).rename(changed.path / "onnx" / name)
    changed.save_weights({k: a * 2 for k, a in run.load_weights().items()}, run.about_weights())
    with pytest.raises(RunError, match="Keras is not installed"):
        find_model(changed)


def test_without_keras_a_line_says_what_to_do(run, tmp_path, monkeypatch):
    bare = without_export(run, tmp_path / "bare")
    monkeypatch.setitem(sys.modules, "keras", None)
    error = refused(call("predict", "--model", bare.path, "photo.jpg"), 5)
    assert "Keras is not installed here; run fmnist export" in error
    assert not (bare.path / "onnx").exists()


def test_without_its_data_a_run_leaves_nothing_behind(run, tmp_path, monkeypatch):
    bare = without_export(run, tmp_path / "bare")
    bare.change_env(data=dict(bare.env["data"], folder=str(tmp_path / "gone")))
    with pytest.raises(RunError, match=r"gone: expected .*; export it by fmnist export .* --data"):
        find_model(bare)
    assert not [*bare.path.glob("*onnx*"), *bare.path.glob(".*")]


def test_what_has_no_model_is_refused(run, tmp_path):
    for name in (tmp_path, tmp_path / "none.onnx", "none"):
        error = refused(call("predict", "--model", name, "photo.jpg"), 5)
        assert "expected an .onnx file, a folder with model.onnx, or a run, found none" in error


@pytest.mark.chaos
def test_a_signal_ends_the_export_too(run, tmp_path):
    bare = without_export(run, tmp_path / "bare")
    process = own_process("predict", "--model", bare.path, "photo.jpg")
    while not (begun := [*bare.path.glob(".*.tmp")]):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[1].endswith("\nstopped\n")
    assert process.returncode == 128 + signal.SIGTERM
    with contextlib.suppress(FileNotFoundError):
        pytest.fail(f"left {begun[0].stat()}")
    assert not (bare.path / "onnx").exists()
