"""The model in the box on the real test images: its card says what it is and what it scores."""

import json
import runpy
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from scipy.special import logsumexp, softmax
from sklearn.metrics import precision_recall_fscore_support

import fmnist
from fmnist import files
from fmnist.errors import DataError
from fmnist.inference.classifier import Classifier
from fmnist.inference.garments import cut_out
from fmnist.runs.run import SCHEMA
from fmnist.scoring.figures import wilson_interval

SHIPPED = Path(fmnist.__file__).parent / "inference" / "shipped"
if not SHIPPED.exists():
    pytest.skip("no model is shipped yet", allow_module_level=True)

CARD = json.loads((SHIPPED / "card.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def session():
    return onnxruntime.InferenceSession(SHIPPED / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def test():
    try:
        return fmnist.load_data().test.open()
    except DataError as error:
        pytest.skip(f"Fashion-MNIST could not be had: {error}")


@pytest.fixture(scope="module")
def answers(session, test):
    """Logits and probabilities of the 10,000 test images."""
    images = test.images[..., 0]
    names = ["logits", "probabilities"]
    parts = [session.run(names, {"images": images[i : i + 500]}) for i in range(0, 10_000, 500)]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def test_the_card_is_the_files_own_and_the_file_is_small(session):
    path = SHIPPED / CARD["file"]
    assert CARD["sha256"] == files.sha256(path)
    segmenter = SHIPPED / "segmenter.onnx"
    assert CARD["bytes"] == path.stat().st_size
    assert CARD["bytes"] + segmenter.stat().st_size <= 1_000_000
    assert CARD["schema"] == SCHEMA
    assert CARD["sha256"] in (SHIPPED / "card.html").read_text(encoding="utf-8")
    inside = json.loads(session.get_modelmeta().custom_metadata_map["fmnist"])
    assert inside["temperature"] == CARD["temperature"] != 1
    assert inside["classes"] == CARD["classes"]
    assert inside["outlier"]["threshold"] == CARD["outlier"]["threshold"]
    assert inside["doubt"] == CARD["doubt"] >= 0.5
    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["n", 28, 28])


@pytest.mark.data
def test_it_scores_what_the_card_says(answers, test):
    """On another processor rounding may turn a few answers."""
    logits, _ = answers
    said, right = CARD["scores"]["test"], int((logits.argmax(axis=1) == test.labels).sum())
    assert said["n"] == len(test.labels) == 10_000
    assert abs(said["correct"] - right) <= 5
    assert right >= 9450
    assert said["accuracy"] == said["correct"] / 10_000
    assert said["interval"] == pytest.approx(wilson_interval(said["correct"], 10_000))
    found = precision_recall_fscore_support(test.labels, logits.argmax(axis=1))
    for row, *figures in zip(said["by_class"], *found, strict=True):
        assert [row[k] for k in ("precision", "recall", "f1", "n")] == pytest.approx(
            figures, abs=0.003
        )
    centred = logits - logits.mean(axis=1, keepdims=True)
    unlike = logsumexp(centred.astype(float), axis=1) < CARD["outlier"]["threshold"]
    assert CARD["outlier"]["test_false_alarm"] == pytest.approx(unlike.mean(), abs=0.001)


@pytest.mark.data
def test_its_probabilities_hold(answers, test):
    """The mean confidence is the accuracy to a point: that is what the temperature is for."""
    logits, chance = answers
    expected = softmax(logits.astype(float) / CARD["temperature"], axis=1)
    np.testing.assert_allclose(chance, expected, atol=1e-5)
    right = chance.argmax(axis=1) == test.labels
    assert chance.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.02)


def test_its_card_names_the_photos_that_it_learnt_and_those_that_it_was_tried_on():
    (learnt,), tried = CARD["learnt_photos"], CARD["photo_score"]
    assert learnt["files"] == 3068
    assert "CC0" in learnt["source"]
    assert (tried["n"], tried["none"]) == (290, 51)
    assert tried["right"] > 0.88
    assert tried["wrong_and_sure"] <= 0.02


@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "least"), [("light grey", 0.85), ("planks", 0.8), ("pair", 0.5), ("sideways", 0.4)]
)
def test_it_tells_garments_in_photos(test, kind, least):
    """Of test images, laid on a ground by `benchmarks/photos.py`."""
    photo = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "photos.py"))["photo"]
    random = np.random.default_rng(0)
    seen = np.stack([cut_out(photo(each[..., 0], kind, random)) for each in test.images[:80]])
    answers = Classifier.load().predict(seen).argmax(axis=1)
    assert (answers == test.labels[:80]).mean() >= least
