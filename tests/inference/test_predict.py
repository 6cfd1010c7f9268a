"""The classifier of an ONNX file: its numbers, and what is refused."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_models import ABOUT, CLASSES, weights, write_model
from PIL import Image
from scipy.special import logsumexp, softmax

import fmnist
from fmnist.errors import FmnistError, RunError, UsageError
from fmnist.inference import trial
from fmnist.inference.classifier import BATCH, Classifier, energy
from fmnist.inference.photos import prepare

IMAGES = np.random.default_rng(0).integers(0, 256, (2 * BATCH + 3, 28, 28), dtype=np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def classifier(path):
    return fmnist.Classifier.load(path)


def test_it_knows_what_the_file_says(classifier):
    assert classifier.name == "tiny"
    assert classifier.classes == CLASSES
    assert classifier.shape == (28, 28)
    assert (classifier.temperature, classifier.threshold) == (2.0, 1.5)


def test_logits_and_calibrated_probabilities(classifier):
    expected = IMAGES.reshape(len(IMAGES), -1) @ weights()
    logits, probabilities = classifier.run(IMAGES)
    assert logits.dtype == probabilities.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    np.testing.assert_allclose(probabilities, softmax(expected / 2, axis=1), rtol=1e-5)
    assert np.array_equal(classifier.logits(IMAGES[:2]), logits[:2])
    assert np.array_equal(classifier.predict(IMAGES[:2]), probabilities[:2])


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES[:1], IMAGES[:1, :, :, np.newaxis]])
def test_one_image_in_each_form(classifier, images):
    assert classifier.predict(images).shape == (1, 3)


def test_no_images_have_no_answers(classifier):
    assert classifier.predict(IMAGES[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    "images",
    [IMAGES[0] / 255, IMAGES[:, :27], IMAGES[..., np.newaxis, np.newaxis], 7, IMAGES[:2].tolist()],
)
def test_other_images_are_refused(classifier, images):
    with pytest.raises(UsageError, match=r"uint8 of shape \(n, 28, 28\)"):
        classifier.predict(images)


@given(st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=4))
def test_energy_is_that_of_centred_logits(rows):
    logits = np.array(rows)
    expected = logsumexp(logits - logits.mean(axis=1, keepdims=True), axis=1)
    np.testing.assert_allclose(energy(logits), expected, atol=1e-9)
    np.testing.assert_allclose(energy(logits + 1000), expected, atol=1e-9)


def test_unlike_is_below_the_threshold(classifier, tmp_path):
    logits = np.array([[0, 0, 0], [5, 0, 0]], np.float32)
    assert classifier.is_unlike(logits).tolist() == [True, False]  # log 3 = 1.1, and 3.3
    about = {**ABOUT, "outlier": None}
    without = Classifier.load(write_model(tmp_path / "model.onnx", about))
    assert without.is_unlike(logits).tolist() == [False, False]


def test_a_folder_is_searched_for_its_model(path):
    assert Classifier.load(path.parent).name == "tiny"
    assert Classifier.load(str(path), threads=1).name == "tiny"


def test_a_photo_is_prepared_and_answered(classifier, tmp_path):
    photo = tmp_path / "photo.png"
    image = Image.new("RGB", (60, 80), "white")
    image.paste("navy", (20, 15, 40, 70))
    image.save(photo)
    prepared = fmnist.prepare_photo(photo)
    assert np.array_equal(prepared, prepare(image))
    for source in (photo, str(photo), photo.read_bytes()):
        assert np.array_equal(classifier.predict_photo(source), classifier.predict(prepared)[0])
    photo.write_text("no photo")
    for bad, said in ((photo, "photo.png: expected an image"), (tmp_path / "none", "cannot be")):
        with pytest.raises(FmnistError, match=said):
            classifier.predict_photo(bad)
    about = ABOUT | {"shape": [12, 10, 1]}
    small = Classifier.open(write_model(tmp_path / "small.onnx", about, shape=(12, 10)))
    with pytest.raises(UsageError, match=r"28 × 28 pixels.*found one of 10 × 12"):
        small.predict_photo(photo)


def without(key):
    return {name: value for name, value in ABOUT.items() if name != key}


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (None, "a model that fmnist export wrote"),
        ("nonsense", "expected a JSON object"),
        ("[]", "expected a JSON object"),
        (without("classes"), "expected classes"),
        ({**ABOUT, "schema": 2}, "expected schema 1"),
        ({**ABOUT, "classes": ["one"]}, "different classes"),
        ({**ABOUT, "classes": ["a", "a", "b"]}, "different classes"),
        ({**ABOUT, "classes": ["a", "b"]}, r"logits, float32 \(n, 2\)"),
        ({**ABOUT, "classes": ["a", "b", "c\nd"]}, "control characters"),
        ({**ABOUT, "shape": [28, 28]}, "shape of a grey image"),
        ({**ABOUT, "shape": [28, 28, 3]}, "shape of a grey image"),
        ({**ABOUT, "shape": [28, 10**12, 1]}, "shape of a grey image"),
        ({**ABOUT, "shape": [12, 28, 1]}, r"uint8 \(n, 12, 28\)"),
        ({**ABOUT, "temperature": 0}, "temperature above 0"),
        ({**ABOUT, "temperature": True}, "expected a number"),
        ({**ABOUT, "outlier": {"score": "energy", "threshold": 1.0}}, "centred energy"),
        ({**ABOUT, "outlier": {"score": "centred energy"}}, "expected threshold"),
        ({**ABOUT, "outlier": 3}, "expected"),
    ],
)
def test_metadata_that_cannot_be_is_refused_in_a_line(tmp_path, about, expected):
    path = write_model(tmp_path / "model.onnx", about)
    with pytest.raises(RunError, match=expected) as error:
        Classifier.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"outputs": ("logits", "other")}, "output probabilities"),
        ({"outputs": ("other", "probabilities")}, "output logits"),
        ({"kind": TensorProto.FLOAT}, "uint8"),
    ],
)
def test_another_signature_is_refused_in_a_line(tmp_path, options, expected):
    path = write_model(tmp_path / "model.onnx", **options)
    with pytest.raises(RunError, match=expected):
        Classifier.load(path)


def test_weights_from_other_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(weights().tobytes())
    for name in ("weights.bin", "./weights.bin", str(tmp_path / "weights.bin")):
        path = write_model(tmp_path / "model.onnx", elsewhere=name)
        with pytest.raises(RunError, match="expected an ONNX model"):
            Classifier.load(path)


def test_numbers_that_are_none_are_refused(tmp_path):
    broken = Classifier.open(write_model(tmp_path / "model.onnx", times=float("nan")))
    with pytest.raises(RunError, match="NaN or infinity"):
        broken.predict(IMAGES[:1])


def test_what_is_no_model_is_refused_in_a_line(path, tmp_path, capfd):
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[:100], whole[: len(whole) // 2], whole[50:]):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(RunError) as error:
            Classifier.load(tmp_path)
        assert "\n" not in str(error.value)
    with pytest.raises(RunError, match="found none"):
        Classifier.load(tmp_path / "nothing.onnx")
    (tmp_path / "model.onnx").write_bytes(whole.replace(b"temperature", b"\x80emperature"))
    with pytest.raises(RunError):
        Classifier.load(tmp_path)
    assert capfd.readouterr() == ("", "")  # nor does onnxruntime say anything itself


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_a_damaged_model_is_read_or_refused(path, place, bytes_):
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place : place + len(bytes_)] = bytes_
    damaged = path.with_name("damaged.onnx")
    damaged.write_bytes(content)
    with contextlib.suppress(RunError):
        Classifier.open(damaged, threads=1).predict(IMAGES[:2])


def changed(path, change):
    """The tiny model with `change` done to its graph."""
    model = onnx.load(write_model(path))
    change(model.graph)
    path.write_bytes(model.SerializeToString())
    return path


def constant(name, value, kind=np.int64):
    return numpy_helper.from_array(np.asarray(value, kind), name)


def one_at_a_time(graph):
    graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def no_probabilities(graph):
    graph.node[-1].CopyFrom(helper.make_node("Identity", ["cooled"], ["probabilities"]))


def no_numbers(graph):
    graph.initializer.append(constant("no number", np.nan, np.float32))
    graph.node[-1].CopyFrom(helper.make_node("Mul", ["cooled", "no number"], ["probabilities"]))


def endless(graph):
    """A loop of 2⁶² rounds before the logits are cooled."""
    boolean, number = TensorProto.BOOL, TensorProto.INT64
    graph.initializer.extend([constant("most", 2**62), constant("true", True, bool)])
    graph.node[0].input[0] = "looked at"
    carried = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go on"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("number", number, []),
            helper.make_tensor_value_info("go", boolean, []),
            helper.make_tensor_value_info("before", TensorProto.UINT8, None),
        ],
        [
            helper.make_tensor_value_info("go on", boolean, []),
            helper.make_tensor_value_info("after", TensorProto.UINT8, None),
        ],
    )
    loop = helper.make_node("Loop", ["most", "true", "images"], ["looked at"], body=carried)
    graph.node.insert(0, loop)


def folded_to_160_gigabytes(graph):
    graph.initializer.append(constant("shape", [40_000_000_000]))
    graph.initializer.append(constant("axes", [0]))
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["large"], value=zero))
    graph.node.insert(1, helper.make_node("ReduceMax", ["large"], ["nothing"], keepdims=0))
    graph.node[-1].input[0] = "summed"
    graph.node.insert(-1, helper.make_node("Add", ["cooled", "nothing"], ["summed"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (one_at_a_time, "the model fails"),
        (no_probabilities, "expected probabilities from the model, of 0 to 1"),
        (no_numbers, "NaN or infinity"),
        (endless, "answers for two images within 2 s"),
        (folded_to_160_gigabytes, "model.onnx|the model fails"),
    ],
)
def test_a_model_that_would_harm_its_process_is_tried_in_another(
    tmp_path, monkeypatch, change, said
):
    if change is endless:
        monkeypatch.setattr(trial, "SECONDS", 2.0)
    path = changed(tmp_path / "model.onnx", change)
    with pytest.raises(RunError, match=said) as error:
        Classifier.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_signal_ends_a_model_that_is_tried(tmp_path):
    """Both processes: the one that waits, with the signal's code, and the one that computes."""
    path = changed(tmp_path / "model.onnx", endless)
    image = tmp_path / "photo.png"
    Image.linear_gradient("L").save(image)
    command = [sys.executable, "-m", "fmnist", "predict", "--model", path, image]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (child := children.read_text().split()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert (process.communicate()[1], process.returncode) == ("stopped\n", 128 + signal.SIGTERM)
    assert not Path(f"/proc/{child[0]}").exists()


def test_onnxruntime_tells_nobody(path, tmp_path):
    """With an empty home: no file is written there, where its reports would wait to be sent."""
    image = tmp_path / "photo.png"
    Image.linear_gradient("L").save(image)
    home = tmp_path / "home"
    home.mkdir()
    code = "import time; from fmnist.cli.main import main\ntry: main()\nfinally: time.sleep(1)"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", "--model", path, image],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"HOME": str(home)},
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert [*home.rglob("*")] == []
