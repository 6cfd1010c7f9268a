"""The words of an answer: what the rule says, and where they are printed, drawn and sent."""

import json

import numpy as np
import pytest
from commands import call
from onnx_models import ABOUT, write_model
from PIL import Image

from fmnist.errors import RunError
from fmnist.inference import pictures
from fmnist.inference.classifier import Classifier
from fmnist.inference.inputs import KEPT, Given
from fmnist.inference.verdict import verdicts
from fmnist.serving.schema import describe

NAMES = ["Shirt", "Ankle boot", "3"]
SURE, UNSURE = (0.9, 0.06, 0.04), (0.42, 0.4, 0.18)


def loaded(tmp_path, **about):
    return Classifier.open(write_model(tmp_path / "m.onnx", {**ABOUT, "classes": NAMES, **about}))


@pytest.mark.parametrize(
    ("order", "probabilities", "about", "expected"),
    [
        ((0, 1, 2), SURE, {}, (True, "probably a Shirt")),
        ((1, 0, 2), SURE, {}, (True, "probably an Ankle boot")),
        ((2, 0, 1), SURE, {}, (True, "probably 3")),
        ((0, 1, 2), UNSURE, {}, (False, "not sure: a Shirt or an Ankle boot")),
        ((2, 0, 1), UNSURE, {}, (False, "not sure: 3 or a Shirt")),
        ((0, 1, 2), UNSURE, {"doubt": 0.4}, (True, "probably a Shirt")),
        ((0, 1, 2), SURE, {"doubt": 1}, (False, "not sure: a Shirt or an Ankle boot")),
        (
            (0, 1, 2),
            SURE,
            {"outlier": {"score": "centred energy", "threshold": 99}},
            (False, "looks like none of the classes"),
        ),
    ],
)
def test_the_rule(tmp_path, order, probabilities, about, expected):
    row = np.zeros((1, 3), np.float32)
    row[0, list(order)] = probabilities
    image = np.ones((1, 28, 28), np.uint8)
    (said,) = verdicts(loaded(tmp_path, **about), image, 9 * np.log(row), row, [True])
    assert (said.sure, said.words) == expected
    assert said.unlike == ("none of" in said.words)


@pytest.mark.parametrize(
    ("cut", "words"), [(True, "no garment found"), (False, "nothing in the image")]
)
def test_an_image_of_zeros_is_no_class(tmp_path, cut, words):
    """Whatever the model says of it; the server sends the same words."""
    model, image = loaded(tmp_path, outlier=None), np.zeros((1, 28, 28), np.uint8)
    row = np.array([SURE], np.float32)
    (sent,) = describe(model, image, (9 * np.log(row), row), False, cut)["predictions"]
    assert (sent["answer"], sent["sure"], sent["unlike"]) == (words, False, True)


@pytest.mark.parametrize("doubt", [-0.1, 1.5, float("nan"), "0.5", None])
def test_a_doubt_that_is_no_probability_is_refused(tmp_path, doubt):
    assert loaded(tmp_path).doubt == 0.5
    with pytest.raises(RunError, match=r"metadata.*(doubt|NaN)"):
        loaded(tmp_path, doubt=doubt)


def test_a_photo_without_a_garment_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = "empty.png"
    Image.new("RGB", (90, 120), "white").save(path)
    assert call("predict", path).out == "empty.png: no garment found\n"
    line = json.loads(call("predict", path, "--json").out)
    assert (line["answer"], line["sure"], line["unlike"]) == ("no garment found", False, True)
    Image.new("L", (28, 28)).save(path)
    assert call("predict", path, "--raw").out == "empty.png: nothing in the image\n"


def test_long_names_keep_their_lines(tmp_path):
    """A file's name that is too long has a line alone; classes stand below one another."""
    names = ["Shirt", "シャツ" * 20, "a name of a class that has forty letters"]
    model = write_model(tmp_path / "m.onnx", {**ABOUT, "classes": names, "outlier": None})
    pixels = np.zeros((28, 28), np.uint8)
    pixels[:14] = 250
    path = tmp_path / f"{'long-' * 20}.png"
    Image.fromarray(pixels).save(path)
    name, words, *classes = call("predict", path, "--raw", "--model", model).out.splitlines()
    assert (name, words) == (f"{path}:", "  probably a Shirt")
    assert [line.index("%") for line in classes] == [7, 7, 7]
    assert [line[9:14] for line in classes] == ["Shirt", "a nam", "シャツシャ"]


def test_a_picture_holds_the_answer():
    """Names that the font has no letters for, and long ones, are drawn as far as it can."""
    given = Given("x", np.zeros((28, 28), np.uint8))
    names = ["Łódź シャツ عربى \ud800", "x" * 500, "Coat", "Bag"]
    classes = [{"class": name, "probability": 0.25} for name in names]
    for words in ("probably a Coat", f"not sure: a {'x' * 500} or a Coat"):
        strip = np.asarray(pictures.drawn(given, {"answer": words, "classes": classes}))[KEPT:]
        rows = (strip.min(axis=(1, 2)) < 100).astype(int)
        assert (np.diff(rows, prepend=0) == 1).sum() == 4  # lines of text: the words, three classes
        assert strip[:, -pictures.MARGIN :].min() == strip[-4:].min() == 255
