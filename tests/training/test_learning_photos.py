"""Photos that are learnt beside a data set: the loss of a set of classes, runs, cards, refusals."""

import shutil

import numpy as np
import pytest
from commands import call, refused
from garments import SHAPES, SOURCE, draw, draw_photos, on_black
from tiny import QUIET, StopAt, history, small, weights_hash

from fmnist import files
from fmnist.data.load import load_data
from fmnist.data.save import save_idx
from fmnist.engine import backend
from fmnist.engine.metrics import LabelledAccuracy
from fmnist.errors import RunError, UsageError
from fmnist.exports.export import export
from fmnist.exports.weight_parts import portable_env
from fmnist.inference.classifier import Classifier
from fmnist.inference.photos import prepare_photo
from fmnist.runs.reproduce import training_command
from fmnist.scoring.evaluate import compile_forward, load_model
from fmnist.signals import Interrupted
from fmnist.training import teachers
from fmnist.training.ensemble import ensemble
from fmnist.training.task import cross_entropy
from fmnist.training.train import resume, train

SETS = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], bool)  # labels 4, 5, 6
LEARNS = {
    "model.filters": "8,16",
    "crop": 0,
    "cutout": 0,
    "epochs": 15,
    "batch_size": 25,
    "learning_rate": 0.2,
}


@pytest.fixture(scope="module")
def data():
    return on_black()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return draw_photos(tmp_path_factory.mktemp("photos") / "all")


@pytest.fixture(scope="module")
def run(data, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "with-photos"
    return train(small(**LEARNS), data, folder, photos=photos, progress=QUIET)


def gradient(loss, labels, logits):
    """Of the summed loss, by the logits."""
    if backend.name() == "jax":
        import jax

        return np.asarray(jax.grad(lambda z: loss(labels, z).sum())(logits))
    import tensorflow as tf

    z = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(z)
        total = tf.reduce_sum(loss(labels, z))
    return tape.gradient(total, z).numpy()


def softmax(z):
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.engines
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_gradient_for_a_set_is_that_of_its_summed_probability(smoothing):
    logits = np.random.RandomState(0).normal(0, 2, (5, 4)).astype("float32")
    labels = np.array([4, 5, 6, 2, 5], "float32")  # Keras makes floats of them
    allowed = np.array([[1, 1, 1, 1], SETS[1], SETS[2], [0, 0, 1, 0], SETS[1]], float)

    def by_hand(z):
        """-log of the summed probability; the mean of -log p where there is no class, or to s."""
        p = softmax(z)
        spread = -np.log(p).mean(axis=1)
        summed = -np.log((p * allowed).sum(axis=1))
        chosen = np.where(labels == 4, spread, summed)
        return (1 - smoothing) * chosen + smoothing * spread

    step = 1e-6
    wide = logits.astype("float64")
    expected = np.stack(
        [(by_hand(wide + each) - by_hand(wide - each)) / (2 * step) for each in step * np.eye(4)],
        axis=1,
    )
    found = gradient(cross_entropy(smoothing, SETS), labels, logits)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.engines
def test_one_label_has_the_loss_that_it_has_without_photos():
    logits = np.random.RandomState(1).normal(0, 3, (4, 4)).astype("float32")
    labels = np.arange(4)
    both = [np.asarray(cross_entropy(0.1, sets)(labels, logits)) for sets in (None, SETS)]
    np.testing.assert_allclose(*both, rtol=1e-6)


@pytest.mark.engines
def test_a_teacher_says_nothing_of_a_photo():
    random = np.random.RandomState(2)
    logits, taught = random.normal(size=(2, 3, 4)).astype("float32")
    labels = np.array([1, 4, 5])
    hard = cross_entropy(0.1, SETS)
    targets = np.concatenate([labels[:, None], taught], axis=1).astype("float32")
    loss = np.asarray(teachers.loss(hard, 0.7, 3.0)(targets, logits))
    alone = np.asarray(hard(labels, logits))
    np.testing.assert_allclose(loss[1:], alone[1:], rtol=1e-6)
    assert abs(loss[0] - alone[0]) > 0.1


@pytest.mark.engines
def test_the_accuracy_that_is_shown_is_that_of_the_images():
    accuracy = LabelledAccuracy()
    accuracy.update_state(np.array([0, 1, 4, 5]), np.eye(4, dtype="float32")[[0, 2, 1, 1]])
    assert float(accuracy.result()) == 0.5


@pytest.mark.engines
@pytest.mark.long_on_jax
def test_photos_are_learnt_and_the_data_set_stays_what_it_was(run, data, photos):
    env, files_ = run.env, sorted(photos.glob("*/*.jpg"))
    (record,) = env["photos"]
    assert record["kinds"] == dict.fromkeys(sorted(SHAPES), 8)
    assert (record["files"], record["source"]) == (32, SOURCE)
    # Three copies of each, another form for each second one, and a sixteenth of the data's images.
    most = 3 * 32 + 16 + len(data.train) // 16
    assert most - 20 <= record["images"] <= most
    assert (env["data"]["n"], env["data"]["hash"]) == (len(data.train), data.hash)
    line = run.metrics()[-2]
    assert line["accuracy"] * len(data.train) == pytest.approx(
        round(line["accuracy"] * len(data.train)), abs=1e-3
    )
    assert line["update"] == 15 * -(-(len(data.train) + record["images"]) // 25)
    forward = compile_forward(load_model(run)[0], env["mean"], env["deviation"])
    images = np.stack([prepare_photo(path) for path in files_])[..., np.newaxis]
    chance = softmax(np.asarray(forward(images)).astype("float64"))
    classes = list(data.classes)
    right = {
        "pants": ["Trouser"],
        "shoes": ["Sneaker", "Ankle boot", "Sandal"],
        "outwear": ["Coat", "Pullover"],
    }
    for kind, names in right.items():
        rows = [path.parent.name == kind for path in files_]
        assert chance[rows][:, [classes.index(n) for n in names]].sum(axis=1).mean() > 0.7, kind
    assert chance[[path.parent.name == "hat" for path in files_]].max(axis=1).mean() < 0.3
    assert f"--photos {photos}" in training_command(run)


@pytest.mark.engines
@pytest.mark.long_on_jax
def test_resume_prepares_the_photos_again_and_refuses_others(data, photos, tmp_path):
    place = shutil.copytree(photos, tmp_path / "photos")
    one = train(small(), data, tmp_path / "one", photos=place, progress=QUIET)
    with pytest.raises(Interrupted):
        train(small(), data, tmp_path / "two", photos=place, progress=StopAt(8, 15))
    before = (place / "hat" / "0.jpg").read_bytes()
    draw(place / "hat" / "0.jpg", "shoes", 3)
    with pytest.raises(RunError, match=r"the run was begun with photos .* put the old ones back"):
        resume(tmp_path / "two", data, progress=QUIET)
    (place / "hat" / "0.jpg").write_bytes(before)
    moved = place.rename(tmp_path / "moved")
    assert "--photos DIR says where" in refused(
        call("train", "--resume", tmp_path / "two", "--data", saved(data, tmp_path)), 3
    )
    two = resume(tmp_path / "two", data, photos=moved, progress=QUIET)
    assert weights_hash(one) == weights_hash(two)
    assert history(one) == history(two)


def saved(data, folder):
    save_idx(data, folder / data.name)
    return folder / data.name


def test_cards_name_the_photos(run, data, photos, tmp_path):
    other = train(
        small(epochs=1, **{"model.filters": "8,16"}), data, tmp_path / "other", progress=QUIET
    )
    pair = ensemble([other, run], tmp_path / "pair", equal=True)
    assert pair.env["photos"] == run.env["photos"]
    assert portable_env(pair)["photos"][0]["folder"] == "all"  # without this machine's folders
    apart = draw_photos(tmp_path / "apart", 34)
    export(pair, "huggingface", data, out=tmp_path / "out", allow_loss=1, photos=apart)
    card = files.read_json(tmp_path / "out" / "card.json")
    scored = card["photo_score"]
    assert (scored["n"], scored["none"], scored["source"]) == (102, 34, SOURCE)
    assert scored["wrong_and_sure"] <= 0.02
    assert Classifier.load(tmp_path / "out").doubt == card["doubt"] >= 0.5
    for folder, expected in (
        (photos, "has not learnt"),
        (draw_photos(tmp_path / "few", 2), "expected at least 100 photos"),
    ):
        with pytest.raises(UsageError, match=expected):
            export(pair, "onnx", data, out=tmp_path / "no", photos=folder)
    assert not (tmp_path / "no").exists()
    said = "It learnt 32 photos too (hat 8, outwear 8, pants 8, shoes 8)"
    assert any(said in limit for limit in card["limits"])
    (record,) = card["learnt_photos"]
    assert record["sha256"] == run.env["photos"][0]["sha256"]
    assert card["licence"].endswith(f" Photos that it learnt: {SOURCE}.")
    for page in ("card.html", "README.md"):
        text = (tmp_path / "out" / page).read_text(encoding="utf-8")
        assert said in text
        assert SOURCE in text


def test_the_command_line_refuses_in_one_line(data, photos, tmp_path):
    folder, new = saved(data, tmp_path), tmp_path / "run"
    words = ("train", "quick", "--data", folder, "--run", new, "--quiet", "--photos")
    assert "expected a folder" in refused(call(*words, tmp_path / "missing"), 3)
    place = shutil.copytree(photos, tmp_path / "photos")
    (place / "shoes" / "broken.jpg").write_bytes((place / "shoes" / "0.jpg").read_bytes()[:400])
    assert f"{place / 'shoes' / 'broken.jpg'}: " in refused(call(*words, place), 3)
    (place / "shoes").rename(place / "socks")
    assert "received socks" in refused(call(*words, place), 3)
    assert not new.exists()


def test_data_that_photos_do_not_become_like_is_refused(small_set, photos, tmp_path):
    with pytest.raises(UsageError, match=r"28 × 28 pixels on black.*, received 28 × 28 .*others"):
        train(small(), load_data(small_set), tmp_path / "run", photos=photos, progress=QUIET)
    assert not (tmp_path / "run").exists()
