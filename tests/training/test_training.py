"""Whole runs on a small set: what is written, exact resume, fresh starts, refusals."""

import gc
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from idx import write_idx_set
from tiny import QUIET, StopAt, history, plain, small, weights_hash

from fmnist import files, system
from fmnist.data.load import load_data
from fmnist.engine import backend
from fmnist.errors import NonFiniteLossError, RunError, UsageError
from fmnist.runs.run import Run
from fmnist.scoring.evaluate import evaluate
from fmnist.scoring.verify import verify
from fmnist.signals import Interrupted
from fmnist.training import checkpointing
from fmnist.training.progress import Progress
from fmnist.training.task import cross_entropy
from fmnist.training.train import resume, train
from fmnist.training.trainer import Trainer, epoch_order


def test_a_run_folder_holds_everything(whole, data):
    names = {path.name for path in whole.path.iterdir()}
    assert names == {
        "recipe.json",
        "env.json",
        "metrics.jsonl",
        "weights.safetensors",
        "val_logits.npz",
        "score.json",
        "lock",
    }
    lines = whole.metrics()
    updates = 6  # ⌈280 training images / 50⌉
    assert [line["update"] for line in lines] == [updates, 2 * updates, 3 * updates, 3 * updates]
    assert "finished" in lines[-1]
    env = whole.env
    assert env["data"]["hash"] == data.hash
    assert env["data"]["val_index_hash"] == data.val_index_hash
    assert env["micro_batch"] == 50
    stored = np.load(whole.path / "val_logits.npz")
    correct = (stored["logits"].argmax(axis=1) == data.val.labels).sum()
    assert whole.scores["val"]["correct"] == correct
    assert whole.recipe == small()


def test_it_learns(skilled):
    assert skilled.scores["val"]["accuracy"] > 0.7


@pytest.mark.engines
def test_evaluate_reproduces_the_recorded_score(whole, data):
    recorded = whole.scores["val"]
    again = evaluate(whole, data.val)
    assert (again.correct, again.loss) == (recorded["correct"], pytest.approx(recorded["loss"]))


@pytest.mark.engines
def test_two_runs_are_bit_for_bit_equal(whole, data, tmp_path):
    again = train(small(), data, tmp_path / "again", progress=QUIET)
    assert weights_hash(again) == weights_hash(whole)
    assert history(again) == history(whole)


@pytest.mark.engines
@pytest.mark.parametrize(
    ("update", "number"), [(5, signal.SIGINT), (8, signal.SIGTERM), (12, signal.SIGHUP)]
)
def test_resume_is_bit_for_bit(whole, data, tmp_path, update, number):
    """Stopped before an epoch's short last batch, inside an epoch, and at an epoch's end."""
    with pytest.raises(Interrupted, match=r"--resume") as stopped:
        train(small(), data, tmp_path / "run", progress=StopAt(update, number))
    assert stopped.value.exit_code == 128 + number
    run = Run(tmp_path / "run")
    assert not run.finished
    resumed = resume(run, data, progress=QUIET)
    assert weights_hash(resumed) == weights_hash(whole)
    assert history(resumed) == history(whole)
    stored = [np.load(r.path / "val_logits.npz")["logits"] for r in (resumed, whole)]
    np.testing.assert_array_equal(*stored)


def test_an_ignored_signal_stays_ignored(whole, data, tmp_path):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = train(small(), data, tmp_path / "run", progress=StopAt(5, signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert weights_hash(run) == weights_hash(whole)


def test_checkpoints_take_a_hundredth_of_the_time(whole, data, tmp_path, monkeypatch):
    """Every `CHECKPOINT_SECONDS`, but less often where one takes long; as often as told to."""
    saved, takes = [], [1.0]

    def save(run, trainer, update, watch):
        saved.append(update)
        time.sleep(takes[0])

    monkeypatch.setattr(checkpointing, "save", save)
    monkeypatch.setattr(checkpointing, "CHECKPOINT_SECONDS", 0.0)
    train(small(), data, tmp_path / "seldom", progress=QUIET)
    assert saved == [1], "the next is due after a hundred seconds"
    saved.clear()
    takes[0] = 0.0
    train(small(), data, tmp_path / "often", checkpoint_seconds=0, progress=QUIET)
    assert saved == list(range(1, 18)), "the last update needs none"


def test_short_memory_goes_on_at_half_the_micro_batch(data, tmp_path, monkeypatch):
    """With no checkpoint yet: from the start, with the same first weights."""
    step = Trainer.step

    def short(trainer, update):
        if update == 3 and trainer.micro_batch > 16:
            raise MemoryError
        return step(trainer, update)

    monkeypatch.setattr(Trainer, "step", short)
    chosen = plain(precision="float32")
    run = train(chosen, data, tmp_path / "run", micro_batch=64, progress=QUIET)
    assert (run.env["micro_batch"], run.env["halved"]) == (16, [64, 32])
    fixed = train(chosen, data, tmp_path / "fixed", micro_batch=16, progress=QUIET)
    assert weights_hash(run) == weights_hash(fixed)
    assert history(run) == history(fixed)


@pytest.mark.engines
def test_resume_in_bfloat16_with_dropout_and_micro_batches(data, tmp_path):
    chosen = plain(precision="bfloat16")
    one = train(chosen, data, tmp_path / "one", micro_batch=24, progress=QUIET)
    with pytest.raises(Interrupted):
        train(chosen, data, tmp_path / "two", micro_batch=24, progress=StopAt(7, 15))
    two = resume(tmp_path / "two", data, progress=QUIET)
    assert weights_hash(one) == weights_hash(two)


def test_resume_falls_back_from_a_damaged_checkpoint(whole, data, tmp_path, capsys):
    with pytest.raises(Interrupted):
        train(small(), data, tmp_path / "run", checkpoint_updates=4, progress=StopAt(9, 15))
    files = sorted((tmp_path / "run" / "checkpoint").glob("*.safetensors"))
    assert [int(file.stem) for file in files] == [8, 9], "every fourth update and the stop"
    content = bytearray(files[-1].read_bytes())
    content[len(content) // 2] ^= 1
    files[-1].write_bytes(content)
    resumed = resume(tmp_path / "run", data, progress=Progress("lines"))
    assert "checkpoint skipped" in capsys.readouterr().err
    assert weights_hash(resumed) == weights_hash(whole)


def test_an_edited_recipe_is_neither_resumed_nor_verified(whole, data, tmp_path):
    with pytest.raises(Interrupted):
        train(small(), data, tmp_path / "run", progress=StopAt(1, 15))
    shutil.copytree(whole.path, tmp_path / "whole")
    for name in ("run", "whole"):
        path = tmp_path / name / "recipe.json"
        files.write_json(path, files.read_json(path) | {"cutout": 5})
    with pytest.raises(RunError, match=r"expected the recipe\.json that its checkpoint"):
        resume(tmp_path / "run", data, progress=QUIET)
    with pytest.raises(RunError, match=r"expected the recipe\.json that its weights"):
        verify(tmp_path / "whole", data)


def test_resume_refuses_other_data_and_finished_runs(whole, data, tmp_path):
    with pytest.raises(RunError, match="finished"):
        resume(whole, data, progress=QUIET)
    with pytest.raises(Interrupted):
        train(small(), data, tmp_path / "run", progress=StopAt(1, 15))
    other = load_data(write_idx_set(tmp_path / "other", train=300, test=60, seed=9))
    with pytest.raises(RunError, match="data"):
        resume(tmp_path / "run", other, progress=QUIET)


def test_training_never_opens_test(data, tmp_path, monkeypatch):
    monkeypatch.setattr(type(data.test), "open", lambda self: pytest.fail("test was opened"))
    train(small(epochs=1), data, tmp_path / "run", progress=QUIET)


def test_division_by_memory_does_not_change_the_result(data, tmp_path):
    weights = []
    for name, size in (("whole", None), ("parts", 20)):
        run = train(
            plain(precision="float32"), data, tmp_path / name, micro_batch=size, progress=QUIET
        )
        weights.append(run.load_weights())
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=2e-4)


@pytest.mark.engines
def test_non_finite_loss_names_the_update_and_keeps_the_checkpoint(data, tmp_path):
    # Far too high a rate: the first update is fine, a later one is not.
    chosen = plain(learning_rate=1000, weight_decay=10, warmup=0)
    said = r"update \d+: expected a finite loss.* keeps its last good checkpoint"
    with pytest.raises(NonFiniteLossError, match=said):
        train(chosen, data, tmp_path / "run", checkpoint_seconds=0, progress=QUIET)
    run = Run(tmp_path / "run")
    assert not run.finished
    arrays, manifest = run.checkpoints.load()
    assert manifest["update"] >= 1
    assert all(np.isfinite(a).all() for a in arrays.values())


def test_what_ends_a_training_stands_in_its_folder_until_it_is_resumed(
    whole, data, tmp_path, monkeypatch
):
    """Of whatever kind: here a fault in the middle, which is passed on as it is."""

    def broken(trainer, update):
        if update == 4:
            raise ZeroDivisionError("division by\nzero")
        return step(trainer, update)

    step = Trainer.step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", broken)
        with pytest.raises(ZeroDivisionError):
            train(small(), data, tmp_path / "run", progress=QUIET)
    run = Run(tmp_path / "run")
    assert run.env["ended"]["why"] == "ZeroDivisionError: division by?zero"
    assert not run.finished
    resumed = resume(run, data, progress=QUIET)
    assert "ended" not in Run(tmp_path / "run").env
    assert weights_hash(resumed) == weights_hash(whole)


def test_a_first_update_that_is_no_number_promises_no_checkpoint(data, tmp_path, recwarn):
    chosen = plain(learning_rate=1000, weight_decay=10, warmup=0, epochs=1)
    with pytest.raises(NonFiniteLossError) as caught:
        train(chosen, data, tmp_path / "run", progress=QUIET)
    assert "lower learning_rate" in str(caught.value)
    assert "checkpoint" not in str(caught.value)
    assert Run(tmp_path / "run").env["ended"]["why"] == str(caught.value)
    assert not recwarn.list


def test_weights_that_are_no_numbers_are_no_result(data, tmp_path):
    """One update, after whose finite loss the weights are not: with nothing to score them on."""
    chosen = plain(
        learning_rate=1000, weight_decay=10, warmup=0, epochs=40, batch_size=300, fit_on="all"
    )
    with pytest.raises(NonFiniteLossError):
        train(chosen, data, tmp_path / "run", progress=QUIET)
    assert not Run(tmp_path / "run").finished


def test_fit_on_all_leaves_no_validation(data, tmp_path):
    run = train(small(fit_on="all", epochs=1), data, tmp_path / "run", progress=QUIET)
    assert run.env["data"]["n"] == 300
    assert "val_accuracy" not in run.metrics()[0]
    assert run.scores == {}
    assert evaluate(run, data.test).times_opened == 1
    assert evaluate(run, data.test).times_opened == 2


def test_micro_batch_of_a_model_with_batch_statistics_belongs_to_the_recipe(data, tmp_path):
    with pytest.raises(UsageError, match="--set micro_batch=10"):
        train(small(), data, tmp_path / "run", micro_batch=10, progress=QUIET)
    run = train(small(micro_batch=10, epochs=1), data, tmp_path / "run", progress=QUIET)
    assert run.env["micro_batch"] == 10


counts_peaks = pytest.mark.skipif(
    system.peak() is None, reason="this system keeps no account of peaks"
)


@pytest.mark.skipif(backend.name() != "tensorflow", reason="TensorFlow's graphs")
def test_a_training_leaves_no_graph_behind(data, tmp_path, capfd):
    """And TensorFlow has nothing to say about tracing again."""

    def graphs():
        gc.collect()
        return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())

    before = graphs()
    for optimizer in ("muon", "adamw"):
        train(plain(optimizer=optimizer), data, tmp_path / optimizer, progress=QUIET)
    assert graphs() == before
    assert capfd.readouterr().err == ""


@counts_peaks
@pytest.mark.chaos
def test_memory_does_not_grow_from_training_to_training(data, tmp_path):
    """In a process of its own, of which nothing else changes the size."""
    code = f"""if True:
        import fmnist
        from fmnist.training.progress import Progress
        data = fmnist.load_data({str(data.folder)!r})
        for seed in range(20):
            chosen = fmnist.recipe("quick", epochs=1, seed=seed)
            fmnist.train(chosen, data, f"x/{{seed}}", progress=Progress("none"))
            status = open("/proc/self/statm").read().split()
            print(int(status[1]) * 4096)
        """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    resident = [int(line) for line in done.stdout.split()]
    assert resident[-1] - resident[2] < 30e6, resident
    assert "retracing" not in done.stderr


@counts_peaks
def test_memory_limit_is_probed(data, tmp_path):
    run = train(plain(epochs=1), data, tmp_path / "run", memory_limit=4 * 10**9, progress=QUIET)
    assert set(run.env["probe"]) == {"8", "32"}
    assert 10**8 < run.env["probe"]["8"] < 4 * 10**9
    assert run.env["micro_batch"] == 64


@counts_peaks
@pytest.mark.chaos
def test_a_memory_limit_that_cannot_be_kept_is_refused(data, tmp_path):
    """`make test` has it of `largest_micro_batch` alone; here a process tries."""
    with pytest.raises(UsageError, match="allow more memory"):
        train(plain(), data, tmp_path / "no", memory_limit=10**7, progress=QUIET)
    assert not (tmp_path / "no").exists()


@pytest.mark.engines
def test_epoch_order_is_a_frozen_permutation():
    order = epoch_order(3, 1, 10)
    assert sorted(order) == list(range(10))
    assert list(order) == list(epoch_order(3, 1, 10))
    assert list(order) != list(epoch_order(3, 2, 10))
    assert list(order) == [5, 1, 3, 0, 6, 9, 8, 7, 2, 4]


@pytest.mark.engines
def test_cross_entropy_with_smoothing_equals_its_formula():
    logits = np.random.RandomState(0).normal(size=(6, 4)).astype("float32")
    labels = np.array([0, 1, 2, 3, 0, 1])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = np.full((6, 4), 0.2 / 4)
    target[np.arange(6), labels] += 0.8
    loss = cross_entropy(0.2)(labels, logits)
    np.testing.assert_allclose(np.asarray(loss), -(target * log_p).sum(axis=1), rtol=1e-5)


def test_callbacks_get_each_epochs_line_and_a_recipe_is_named_or_a_file(whole, data, tmp_path):
    """One that raises ends the training, and `resume` goes on from the checkpoint before it."""
    lines, more = [], []

    def stop(line):
        lines.append(line)
        if line["epoch"] == 2:
            raise KeyError("the caller's own")

    with pytest.raises(KeyError, match="the caller's own"):
        train(
            str(whole.path / "recipe.json"),
            data,
            tmp_path / "run",
            checkpoint_updates=6,
            callbacks=[stop],
            progress=QUIET,
        )
    run = resume(tmp_path / "run", data, callbacks=[more.append], progress=QUIET)
    assert weights_hash(run) == weights_hash(whole)
    assert [line["epoch"] for line in lines] == [1, 2]
    assert more == [line for line in run.metrics() if line.get("epoch", 0) > 1]
    with pytest.raises(UsageError, match="did you mean quick"):
        train("quik", data, tmp_path / "other")
