"""Teachers: what the student is asked for, on which images, and which teachers are refused."""

import numpy as np
import pytest
from idx import write_idx_set
from tiny import QUIET, StopAt, history, plain, small, weights_hash

from fmnist import files
from fmnist.data.load import load_data
from fmnist.data.splits import Split, mean_and_deviation
from fmnist.engine import augment, keras, networks
from fmnist.errors import RunError, UsageError
from fmnist.scoring.evaluate import compile_forward, load_model
from fmnist.scoring.views import predict_logits
from fmnist.signals import Interrupted
from fmnist.training import teachers
from fmnist.training.progress import Progress
from fmnist.training.task import Task, cross_entropy
from fmnist.training.train import resume, train
from fmnist.training.trainer import Trainer


@pytest.fixture
def teacher(skilled):
    return skilled


@pytest.fixture(scope="module")
def other(data, tmp_path_factory):
    """A teacher of another architecture that was trained on all images, so by another mean."""
    folder = tmp_path_factory.mktemp("runs") / "other"
    return train(plain(fit_on="all", epochs=1), data, folder, progress=QUIET)


def softmax(x):
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.engines
def test_the_loss_equals_its_formula():
    random = np.random.RandomState(0)
    logits, taught = random.normal(size=(2, 6, 4)).astype("float32")
    labels = np.array([0, 1, 2, 3, 0, 1])
    hard = cross_entropy(0.1)
    targets = np.concatenate([labels[:, None], taught], axis=1).astype("float32")
    loss = teachers.loss(hard, 0.7, 3.0)(targets, logits)
    soft = -(softmax(taught / 3) * np.log(softmax(logits / 3))).sum(axis=1)
    expected = 0.3 * np.asarray(hard(labels, logits)) + 0.7 * 9 * soft
    np.testing.assert_allclose(np.asarray(loss), expected, rtol=1e-5)


@pytest.mark.engines
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.long_on_jax)]
)
def test_teachers_see_the_images_that_the_student_sees(data, teacher, other, precision):
    """Against the student's own augmentation put back to raw pixels, in the student's precision."""
    student = small(fit_on="all", crop=3, cutout=5, precision=precision)
    images, labels = data.train.images[:40], data.train.labels[:40]
    mean, deviation = mean_and_deviation(data.train.images)
    standard = augment.standardise(images, mean, deviation)
    model = networks.build(student)
    first = keras.Model(model.input, model.get_layer("random_cutout").output)
    entries = teachers.describe([teacher, other], student, data)
    teach = teachers.load(entries, student, mean, deviation)
    with augment.step(student.seed, 11, np.arange(5, 45)):
        targets = np.asarray(teach(standard, labels))
        seen = np.asarray(first(standard, training=True))
    np.testing.assert_array_equal(targets[:, 0], labels)
    expected = 0
    for run in (teacher, other):
        network, about = load_model(run, precision)
        assert {layer.compute_dtype for layer in network.layers[:-1]} == {precision}
        raw = seen * deviation + mean
        logits = network((raw - about["mean"]) / about["deviation"], training=False)
        expected = expected + np.asarray(logits) / 2
    # What is put back to raw pixels is not the same to the last bit, which bfloat16 rounds away.
    tolerance = {"float32": 1e-3, "bfloat16": 0.05}[precision]
    np.testing.assert_allclose(targets[:, 1:], expected, atol=tolerance)
    with augment.step(student.seed, 12, np.arange(5, 45)):
        assert np.abs(np.asarray(teach(standard, labels)) - targets).max() > 0.2


def test_with_nothing_left_to_the_labels_they_do_not_matter(data, teacher):
    """And the student comes to agree with the teacher."""
    env = {
        "precision": "float32",
        "shape": [28, 28, 1],
        "classes": list(data.classes),
        "mean": 0.3,
        "deviation": 0.35,
        "micro_batch": 50,
        "teachers": teachers.describe([teacher], small(), data),
    }
    results = []
    for turn in (0, 1):
        chosen = small(
            **{"model.filters": "8,16"},
            distillation=1,
            epochs=12,
            crop=0,
            cutout=0,
            learning_rate=0.2,
        )
        labels = np.roll(data.train.labels, turn)
        trainer = Trainer(Task(chosen, env, Split(data.train.images, labels)), 50)
        for update in range(trainer.task.updates):
            trainer.step(update)
        results.append(trainer.logits(data.train.images, "one"))
    np.testing.assert_array_equal(*results)
    network = compile_forward(load_model(teacher)[0], *about(teacher))
    taught = predict_logits(network, data.train.images)
    agreed = (taught.argmax(axis=1) == results[0].argmax(axis=1)).mean()
    assert agreed > 0.7


def about(run):
    """The mean and deviation that a run's weights go with."""
    said = run.about_weights()
    return said["mean"], said["deviation"]


def test_division_does_not_change_what_is_taught(data, teacher, tmp_path):
    weights = []
    for name, size in (("whole", None), ("parts", 24)):
        run = train(
            plain(precision="float32", crop=2, flip=True),
            data,
            tmp_path / name,
            teachers=[teacher.path],
            micro_batch=size,
            progress=QUIET,
        )
        weights.append(run.load_weights())
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=2e-4)


@pytest.mark.engines
@pytest.mark.long_on_jax
def test_resume_with_a_teacher_is_bit_for_bit(data, teacher, whole, tmp_path):
    one = train(small(), data, tmp_path / "one", teachers=[teacher], progress=QUIET)
    with pytest.raises(Interrupted):
        train(small(), data, tmp_path / "two", teachers=[teacher], progress=StopAt(8, 15))
    two = resume(tmp_path / "two", data, progress=Progress("none"))
    assert weights_hash(one) == weights_hash(two) != weights_hash(whole)
    assert history(one) == history(two)
    assert one.env["teachers"] == [
        {"run": str(teacher.path.resolve()), "weights": files.sha256(teacher.weights_path)}
    ]


def test_a_teacher_that_changed_is_refused(data, teacher, tmp_path):
    entries = [{"run": str(teacher.path), "weights": "0" * 64}]
    with pytest.raises(RunError, match="changed since it began to teach this run"):
        teachers.load(entries, small(), 0.3, 0.35)
    with pytest.raises(RunError, match="expected a run folder"):
        teachers.load([{"run": str(tmp_path), "weights": ""}], small(), 0.3, 0.35)


def test_teachers_that_would_spoil_the_figures_are_refused(data, teacher, other, tmp_path):
    with pytest.raises(UsageError, match="validation images too"):
        train(small(), data, tmp_path / "run", teachers=[other], progress=QUIET)
    foreign = load_data(write_idx_set(tmp_path / "set", train=300, test=60, seed=9))
    with pytest.raises(UsageError, match="expected the data that it was trained on"):
        train(small(), foreign, tmp_path / "run", teachers=[teacher], progress=QUIET)
    with pytest.raises(Interrupted):
        train(small(), data, tmp_path / "unfinished", progress=StopAt(1, 15))
    with pytest.raises(RunError, match="no weights yet"):
        train(small(), data, tmp_path / "run", teachers=[tmp_path / "unfinished"], progress=QUIET)
    assert not (tmp_path / "run").exists()
