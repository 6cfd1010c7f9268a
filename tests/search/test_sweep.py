"""Sweeps of real training processes: cut off and resumed as if nothing had been, pruned, failed."""

import contextlib
import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import optuna
import pytest
from disk import files_limited_to
from idx import write_idx_set
from optuna.trial import Trial

from fmnist import files
from fmnist.data.load import load_data
from fmnist.errors import FmnistError, RunError, UsageError
from fmnist.recipes.shipped import recipe
from fmnist.runs.run import Run
from fmnist.search import repeats, study
from fmnist.search.study import mend_journal
from fmnist.search.sweep import Sweep
from fmnist.search.trial_process import require_room, why_it_failed
from fmnist.training.progress import Progress
from fmnist.training.train import train

SEED = 2  # its third proposal cannot be built, and its second learning rate is the low one
SMALL = {"model.filters": "4", "model.pool_after": "1", "batch_size": 50, "precision": "float32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_idx_set(tmp_path_factory.mktemp("sweep") / "data", height=12, width=12)


def start(folder, data, trials=3):
    """`fmnist sweep` as a process of its own."""
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    over = ["--over=model.filters=4/4,4", "--over=model.pool_after=1/2", "--over=momentum=0.5..0.9"]
    words = ["quick", *settings, "--set=epochs=60", *over, f"--data={data}", f"--out={folder}"]
    words += ["--log=tensorboard"]
    return run_cli("sweep", *words, f"--trials={trials}", "--no-prune", f"--seed={SEED}")


def run_cli(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "fmnist", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_epoch(process, folder):
    """Until a trial's first epoch is done."""
    while not files.read_lines(folder / "metrics.jsonl"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def wait_for_the_lock(folder):
    """Until no process works on a sweep."""
    while True:
        with contextlib.suppress(RunError), files.held(folder / "lock", "held"):
            return
        time.sleep(0.1)


def learnt(folder):
    """Loss and accuracy on val of a trial's epochs."""
    return [
        (line["epoch"], line["loss"], line["val_accuracy"])
        for line in files.read_lines(folder / "metrics.jsonl")
        if "epoch" in line
    ]


def outcome(folder):
    """All that is known of a sweep's trials, times aside."""
    rows = Sweep(folder).rows()
    for row in rows:
        row["seconds"] = bool(row["seconds"])
        row["run"] = row["run"].rpartition("/")[2]
        row["history"] = learnt(folder / "trials" / row["run"])
    return rows


def test_a_trial_cut_off_goes_on_as_if_nothing_had_been(data, tmp_path):
    """Its training is that of its recipe by itself; `make chaos` compares whole sweeps."""
    folder = tmp_path / "s"
    process = start(folder, data, trials=1)
    wait_for_epoch(process, folder / "trials" / "0000")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, said
    assert f"--resume {folder}" in said.splitlines()[-1]
    trial = Run(folder / "trials" / "0000")
    assert trial.checkpoints.load() is not None
    Sweep(folder).search(1)
    (row,) = outcome(folder)
    assert (row["state"], len(row["history"])) == ("complete", 60)
    assert row["values"]["model.filters"] == "4"  # the recipe's own come first
    assert len(list(trial.path.glob("events.out.tfevents.*"))) == 2  # of --log, also when resumed
    alone = train(
        recipe(str(trial.path / "recipe.json")),
        load_data(data),
        tmp_path / "alone",
        progress=Progress("none"),
    )
    assert learnt(alone.path) == row["history"]


def test_a_sweep_whose_trial_is_still_training_is_refused(tmp_path):
    sweep = begun(tmp_path / "s")
    with files.held(sweep.path / "lock", "held"), pytest.raises(RunError, match="still training"):
        sweep.search(1)


@pytest.mark.chaos
def test_a_sweep_cut_off_goes_on_as_if_nothing_had_been(data, tmp_path):
    whole, cut = tmp_path / "one" / "same", tmp_path / "two" / "same"
    undisturbed, process = start(whole, data), start(cut, data)
    wait_for_epoch(process, cut / "trials" / "0000")
    process.kill()  # its trial, left alone, holds the sweep until it has come to its end
    process.communicate()
    with pytest.raises(RunError, match="still training"):
        Sweep(cut).search(3)
    wait_for_the_lock(cut)
    assert Run(cut / "trials" / "0000").finished

    process = run_cli("sweep", "--resume", cut, "--trials=3")
    wait_for_epoch(process, cut / "trials" / "0001")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, said
    assert f"--resume {cut}" in said.splitlines()[-1]
    assert Run(cut / "trials" / "0001").checkpoints.load() is not None
    Sweep(cut).search(3)

    out, said = undisturbed.communicate()
    assert undisturbed.returncode == 0, said
    rows = outcome(whole)
    assert outcome(cut) == rows
    assert [(row["trial"], row["state"], len(row["history"])) for row in rows] == [
        (0, "complete", 60),
        (1, "complete", 60),
        (2, "failed", 0),
    ]
    assert rows[0]["values"]["model.filters"] == "4"  # the recipe's own come first
    assert "model.pool_after: expected" in rows[2]["reason"]
    best = max(rows[:2], key=lambda row: row["val"])
    assert f"best: trial {best['trial']}, val {best['val']:.2%}" in out
    assert "--fit-on all --test" in out


def test_a_trial_that_is_behind_is_pruned(data, tmp_path, monkeypatch):
    """Of two trials at the first rung the better one goes on: the other cannot learn.

    Trials are of the engine that the sweep began with.
    """
    small = recipe("quick", **SMALL, epochs=8, learning_rate=0.05)
    sweep = Sweep.create(
        tmp_path / "s", small, ["learning_rate=0.05/1e-9"], data=str(data), seed=SEED
    )
    monkeypatch.setenv("KERAS_BACKEND", "torch")  # which is refused
    sweep.search(2)
    first, second = sweep.rows()
    assert (first["values"], first["state"], first["epochs"]) == (
        {"learning_rate": "0.05"},
        "complete",
        8,
    )
    assert (second["values"], second["state"]) == ({"learning_rate": "1e-9"}, "pruned")
    assert second["epochs"] in (2, 4)  # the rungs, of which the first may be a tie
    run = Run(second["run"])  # which may have come to its end before it was found behind
    assert run.finished or run.env["ended"]["why"].startswith("pruned: behind other trials")
    assert sweep.best() == first
    sweep.search(2)  # nothing is left to do
    assert sweep.rows() == [first, second]


def test_equal_proposals_are_not_trained_again(tmp_path):
    """The search is Optuna's and the answers are ours: what a training would say is told."""
    small = recipe("quick", epochs=8)
    sweep = Sweep.create(tmp_path / "s", small, ["learning_rate=0.05/0.1", "crop=1..3"])
    tried = []
    while trial := sweep.next_trial(100, float("inf")):
        tried.append((trial.params["learning_rate"], trial.params["crop"]))
        again = Sweep(sweep.path)  # which is where a sweep that was cut off goes on
        assert again.next_trial(100, float("inf")).number == trial.number
        sweep.study.tell(trial, 0.5 + float(trial.params["learning_rate"]))
    assert sorted(tried) == [(rate, crop) for rate in ("0.05", "0.1") for crop in (1, 2, 3)]
    assert sweep.is_exhausted
    assert len(sweep.rows()) == 6
    assert [row["state"] for row in sweep.rows()] == ["complete"] * 6
    sweep.search(100)  # nothing is left
    assert len(sweep.rows()) == 6
    two = Sweep.create(tmp_path / "t", small, ["learning_rate=0.05/0.1"])
    two.study.tell(two.next_trial(2, float("inf")), 0.5)
    assert not two.is_exhausted


def test_values_that_fail_by_themselves_are_not_tried_again(tmp_path):
    """Others, whose process was killed, say, are."""
    sweep = Sweep.create(tmp_path / "s", recipe("quick", epochs=8), ["learning_rate=0.05/1000"])
    tried = []
    while trial := sweep.next_trial(6, float("inf")):
        tried.append(trial.params["learning_rate"])
        (sweep.path / "trials" / f"{trial.number:04}.txt").write_text("error: no number\n")
        if trial.params["learning_rate"] == "1000":
            sweep.finish(trial, 4, lambda rows: None)
        else:
            sweep.study.tell(trial, 0.5)
    assert sorted(tried) == ["0.05", "1000"]
    assert sweep.is_exhausted
    other = Sweep.create(tmp_path / "t", recipe("quick", epochs=8), ["learning_rate=0.05/1000"])
    trial = other.next_trial(6, float("inf"))
    (other.path / "trials" / "0000.txt").write_text("error: No space left on device\n")
    with pytest.raises(OSError, match="trial 0: No space left"):
        other.finish(trial, 5, lambda rows: None)
    assert [row["state"] for row in other.rows()] == ["running"]
    other.finish(trial, -9, lambda rows: None)
    assert other.next_trial(6, float("inf")) is not None
    assert len(repeats.untried(other.study, other.space)) == 1


def test_an_equal_proposal_that_was_cut_off_is_answered_too(tmp_path):
    sweep = Sweep.create(tmp_path / "s", recipe("quick", epochs=8), ["learning_rate=0.05/0.1"])
    sweep.study.tell(sweep.next_trial(9, float("inf")), 0.5)
    sweep.study.enqueue_trial({"learning_rate": "0.1"})
    sweep.study.ask().suggest_categorical("learning_rate", ("0.05", "0.1"))  # and then killed
    again = Sweep(sweep.path)
    assert again.next_trial(9, float("inf")).params == {"learning_rate": "0.05"}
    assert len(again.rows()) == 2


def test_a_range_of_numbers_has_no_end(tmp_path):
    sweep = begun(tmp_path / "s")
    assert not sweep.is_exhausted


def test_a_strangers_sweep_makes_nothing_elsewhere(tmp_path):
    elsewhere = tmp_path / "elsewhere.db"
    for content in (None, b"no database"):
        if content:
            elsewhere.write_bytes(content)
        sweep = begun(tmp_path / f"s{bool(content)}")
        about = json.loads((sweep.path / "sweep.json").read_text())
        changed = about | {"storage": f"sqlite:///{elsewhere}"}
        files.write_json(sweep.path / "sweep.json", changed)
        with pytest.raises(RunError, match="expected a storage that knows its trials"):
            Sweep(sweep.path)
        assert elsewhere.exists() == bool(content)
        assert not content or elsewhere.read_bytes() == content
        files.write_json(sweep.path / "sweep.json", about | {"schema": 2})
        with pytest.raises(RunError, match="expected schema 1, found 2"):
            Sweep(sweep.path)
    for name in ("journal.log", "lock", "trials/0001"):
        sweep = begun(tmp_path / name.replace("/", " "))
        (sweep.path / name).unlink(missing_ok=True)
        (sweep.path / name).symlink_to(tmp_path / "made")
        with pytest.raises(RunError, match="found a link out of the folder"):
            Sweep(sweep.path)
        (sweep.path / name).unlink()
        os.mkfifo(sweep.path / name)
        with pytest.raises(RunError, match="found a pipe or device"):
            Sweep(sweep.path)
    assert not (tmp_path / "made").exists()


def test_an_sqlite_file_that_is_held_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "LOCKED_SECONDS", 0.1)
    path = tmp_path / "optuna.db"
    sweep = begun(tmp_path / "s", storage=f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RunError, match=r"database is locked\); go on by"):
            Sweep.search(sweep, 2)
        with pytest.raises(RunError, match=r"is held by another process since 0.1 s"):
            Sweep(sweep.path)
    about = json.loads((sweep.path / "sweep.json").read_text())
    files.write_json(sweep.path / "sweep.json", about | {"study": "another's"})
    with pytest.raises(RunError, match="it knows others"):
        Sweep(sweep.path)
    assert optuna.get_all_study_names(f"sqlite:///{path}") == [about["study"]]


def test_a_sweep_is_refused_where_it_cannot_be(data, tmp_path):
    folder = tmp_path / "s"
    with pytest.raises(UsageError, match="val"):
        Sweep.create(folder, recipe("quick", fit_on="all"), ["momentum=0.1/0.2"])
    with pytest.raises(RunError, match="expected a sweep"):
        Sweep(folder)
    with pytest.raises(RunError, match="storage could not be opened"):
        Sweep.create(folder, recipe("quick"), ["momentum=0.1/0.2"], storage="nonsense://")
    assert not folder.exists()
    sweep = Sweep.create(folder, recipe("quick"), ["momentum=0.1/0.2"], data=str(data))
    with pytest.raises(RunError, match="never writes into another"):
        Sweep.create(folder, recipe("quick"), ["momentum=0.1/0.2"])
    assert sweep.best() is None
    about = json.loads((folder / "sweep.json").read_text())
    files.write_json(folder / "sweep.json", about | {"storage": "nonsense://"})
    with pytest.raises(RunError, match="storage could not be opened"):
        Sweep(folder)
    files.write_json(folder / "sweep.json", about | {"storage": "redis://elsewhere"})
    with pytest.raises(RunError, match="without pickle"):
        Sweep(folder)
    files.write_json(folder / "sweep.json", about | {"over": "momentum"})
    with pytest.raises(RunError, match="over"):
        Sweep(folder)
    files.write_json(folder / "base.json", recipe("quick", fit_on="all").to_json())
    files.write_json(folder / "sweep.json", about)
    with pytest.raises(UsageError, match="val"):
        Sweep(folder)


def begun(folder, **options):
    """A sweep with a trial whose process never started."""
    small = recipe("quick", epochs=8)
    sweep = Sweep.create(folder, small, ["momentum=0.1..0.2"], **options)
    sweep.study.ask()
    (folder / "trials" / "0000").mkdir()
    return sweep


def test_a_folder_may_be_renamed_and_a_storage_shared(tmp_path):
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    first = begun(tmp_path / "a" / "same", storage=storage)
    second = Sweep.create(
        tmp_path / "b" / "same", recipe("quick"), ["momentum=0.1..0.2"], storage=storage
    )
    assert (len(first.rows()), len(second.rows())) == (1, 0)
    begun(tmp_path / "one").path.rename(tmp_path / "two")
    assert len(Sweep(tmp_path / "two").rows()) == 1


def test_without_the_storage_that_knows_its_trials_a_sweep_is_refused(tmp_path):
    """Its folders would be taken for the trials of another."""
    begun(tmp_path / "s")
    (tmp_path / "s" / "journal.log").unlink()
    with pytest.raises(RunError, match=r"knows its trials at journal\.log"):
        Sweep(tmp_path / "s")


def test_what_a_killed_process_left_of_a_line_is_undone(tmp_path):
    folder = begun(tmp_path / "s").path
    (folder / "journal.log.lock").symlink_to("journal.log")
    whole = (folder / "journal.log").read_bytes()
    (folder / "journal.log").write_bytes(whole + b'{"op_code":6,"wor')
    Sweep(folder)  # while another process may still be at work on the line
    assert (folder / "journal.log.lock").is_symlink()
    mend_journal(folder)
    assert (folder / "journal.log").read_bytes() == whole
    Sweep(folder).study.ask()
    assert len(Sweep(folder).rows()) == 2


def test_a_trial_that_was_found_behind_stays_so(tmp_path):
    """Also where the sweep was cut off before the trial's process had ended."""
    sweep = begun(tmp_path / "s")
    first, second = Trial(sweep.study, 0), sweep.study.ask()
    for trial, val in ((first, 0.9), (second, 0.2)):
        trial.report(val, 2)
        assert sweep._is_behind(trial) == (trial is second)
    sweep.study.tell(first, 0.9)
    again = Sweep(sweep.path)
    again.search(2)
    assert [row["state"] for row in again.rows()] == ["complete", "pruned"]
    assert not again.folder_of(1).exists()  # nothing was trained


def test_trials_that_all_fail_end_the_sweep(tmp_path):
    """Also one that names a seed for which NumPy has none, and by the command with exit code 1."""
    folder = write_idx_set(tmp_path / "nowhere")
    next(folder.glob("train-images*")).write_bytes(
        b"no image"
    )  # which a trial is the first to read
    process = run_cli(
        "sweep",
        "--over=momentum=0.1/0.2",
        f"--data={tmp_path / 'nowhere'}",
        "--seed=-50000",
        "--trials=2",
        f"--out={tmp_path / 's'}",
    )
    out, said = process.communicate()
    assert process.returncode == 1, said
    assert "failed because" in out
    assert said.splitlines()[-1] == f"error: {tmp_path / 's'}: no trial was finished"
    sweep = Sweep(tmp_path / "s")
    with pytest.raises(FmnistError, match=r"every trial so far failed; the last: .*nowhere"):
        sweep.search(10)
    assert [row["state"] for row in sweep.rows()] == ["failed"] * 3


def test_the_reason_of_a_killed_trial_is_no_line_of_its_progress(tmp_path):
    said = tmp_path / "0000.txt"
    said.write_text("epoch 1/8\nerror: no room\n\n")
    assert why_it_failed(said, 1) == "no room"
    assert why_it_failed(said, -9) == "its process was killed by signal 9"


def test_a_full_disk_is_found(tmp_path):
    require_room(tmp_path)
    with files_limited_to(100), pytest.raises(OSError, match="File too large"):
        require_room(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_is_one_line_and_can_be_gone_on_from(tmp_path):
    sweep = begun(tmp_path / "s")
    (tmp_path / "s" / "trials" / "0000.txt").mkdir()  # so that it cannot be written
    with pytest.raises(RunError, match=r"could not be written.*go on by.*sweep --resume"):
        sweep.search(1)
    assert [row["state"] for row in sweep.rows()] == ["running"]


def test_the_command_for_the_best_trial_trains_its_recipe(tmp_path):
    """By its file where the recipe is no shipped one."""
    values = {"momentum": 0.15}
    named = begun(tmp_path / "s")
    row = {"run": str(named.folder_of(0)), "values": values}
    assert named.command_for(row) == (
        "fmnist train quick --set epochs=8 --set momentum=0.15 --fit-on all --test"
    )
    own = dataclasses.replace(recipe("quick"), name="mine")
    unnamed = Sweep.create(tmp_path / "t", own, ["momentum=0.1..0.2"])
    assert f"train {row['run']}/recipe.json --fit-on all" in unnamed.command_for(row)
