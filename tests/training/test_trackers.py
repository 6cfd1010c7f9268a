"""Trainings that are followed elsewhere: real event files, and real MLflow by `make trackers`."""

import shutil
from importlib.util import find_spec

import pytest
from tiny import StopAt, history, small, weights_hash

from fmnist.errors import UsageError
from fmnist.runs.run import Run
from fmnist.signals import Interrupted
from fmnist.training.progress import Progress
from fmnist.training.trackers import Log, require, send_scores
from fmnist.training.train import resume, train


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def shown(run):
    """The figures of each epoch as TensorBoard's reader has them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(run.path))
    reader.Reload()
    epochs = {}
    for name in reader.Tags()["scalars"]:
        for event in reader.Scalars(name):
            epochs.setdefault(event.step, []).append((name, event.value))
    return epochs


def has_the_curves(epochs, run):
    """Whether a tracker has what metrics.jsonl says, each epoch once, then the scores."""
    lines = [line for line in run.metrics() if "epoch" in line]
    assert sorted(epochs) == [line["epoch"] for line in lines]
    scores = {f"score/{split}/accuracy": run.scores[split]["accuracy"] for split in run.scores}
    for line in lines:
        figures = dict(epochs[line["epoch"]])
        assert len(figures) == len(epochs[line["epoch"]])
        last = line is lines[-1]
        assert {"score/val/accuracy", "score/test/accuracy"}.isdisjoint(figures) or last
        for name, value in (line | scores if last else line).items():
            assert figures[name] == pytest.approx(value), name
    return True


def test_tensorboard_has_what_metrics_jsonl_says_also_after_a_resume(whole, data, tmp_path, capsys):
    """Stopped inside the third epoch, and followed from then on by one that is not set up."""
    with pytest.raises(Interrupted):
        train(small(), data, tmp_path / "run", log=["tensorboard"], progress=StopAt(14, 15))
    Run(tmp_path / "run").change_env(log=["tensorboard", "mlflow"])
    run = resume(tmp_path / "run", data, progress=Progress("none"))
    assert len(list(run.path.glob("events.out.tfevents.*"))) == 2
    assert has_the_curves(shown(run), run)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("note: --log mlflow")
    assert said.endswith("training goes on without it")
    # Who is followed learns the same.
    assert (weights_hash(run), history(run)) == (weights_hash(whole), history(whole))


def test_a_tracker_that_failed_gets_all_of_it_later(whole, tmp_path):
    run, said = Run(shutil.copytree(whole.path, tmp_path / "run")), []
    log = Log("tensorboard", run, said.append)
    run.path.rename(tmp_path / "away")
    log({})
    log.end("FAILED")
    (line,) = said
    assert "No such file" in line
    (tmp_path / "away").rename(run.path)
    log.end("FINISHED")
    assert len(said) == 1
    assert has_the_curves(shown(run), run)


def test_scores_come_after_the_training(whole, tmp_path):
    run = Run(shutil.copytree(whole.path, tmp_path / "run"))
    send_scores(run, pytest.fail)
    assert not list(run.path.glob("events*"))  # nobody asked for them
    run.change_env(log=["tensorboard"])
    run.save_score("test", run.scores["val"])
    send_scores(run, pytest.fail)
    assert has_the_curves(shown(run), run)


def test_what_cannot_follow_is_refused_before_the_training(data, tmp_path):
    with pytest.raises(UsageError, match="one of tensorboard, mlflow, received 'elsewhere'"):
        train(small(), data, tmp_path / "run", log=["elsewhere"])
    with pytest.raises(UsageError, match=r"^--log mlflow"):
        train(small(), data, tmp_path / "run", log=["mlflow"])
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="MLflow is installed here")
def test_without_mlflow_it_says_what_to_install():
    with pytest.raises(UsageError, match=r'mlflow is missing\): pip install -e "\.\[mlflow\]"'):
        require("mlflow")


@pytest.mark.slow
def test_mlflow_has_parameters_curves_scores_and_weights(
    whole, data, tmp_path, monkeypatch, capsys
):
    """In an SQLite file, which its client takes as it does a server."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow: make trackers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(Interrupted):
        train(small(), data, "run", log=["mlflow"], progress=StopAt(14, 15))
    client = mlflow.MlflowClient()
    (there,) = client.search_runs([client.get_experiment_by_name("fmnist").experiment_id])
    assert there.info.status == "KILLED"
    # A server that does not answer: the training is none the worse, and goes on there when it does.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(Interrupted):
        resume("run", data, progress=StopAt(16, 15))
    assert "note: --log mlflow: [Errno 111] Connection refused" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = resume("run", data, progress=Progress("none"))
    assert (weights_hash(run), history(run)) == (weights_hash(whole), history(whole))
    (there,) = client.search_runs([there.info.experiment_id])
    assert (there.info.status, there.info.run_name) == ("FINISHED", "run")
    assert there.data.params["model.filters"] == "[4, 8]"
    assert there.data.params["learning_rate"] == "0.05"
    epochs = {}
    for name in there.data.metrics:
        for each in client.get_metric_history(there.info.run_id, name):
            epochs.setdefault(each.step, []).append((name, each.value))
    assert has_the_curves(epochs, run)
    weights = client.download_artifacts(there.info.run_id, "weights.safetensors", str(tmp_path))
    assert (tmp_path / "weights.safetensors").samefile(weights)
    assert (tmp_path / "weights.safetensors").read_bytes() == run.weights_path.read_bytes()
