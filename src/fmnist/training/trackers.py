"""Follows a training elsewhere: `--log tensorboard`, `--log mlflow`.

A run folder has everything; a tracker shows it. So what a tracker raises is one line and stops no
training, and what it did not get it is sent later, from `metrics.jsonl`.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

from fmnist.errors import UsageError, printable, to_install
from fmnist.runs.run import Run
from fmnist.signals import Interrupted

PATIENCE = 10  # a tracker that failed is left alone for so many times as long as that took
ARTIFACTS = ("recipe.json", "env.json", "metrics.jsonl", "score.json", "weights.safetensors")
# Unless these are set, MLflow reports to its makers, prints links on stdout, and tries for minutes
# to reach a server that does not answer.
MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class Tracker(Protocol):
    """What a training is shown by. `epoch` is the last epoch that it has."""

    epoch: int

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Keep an epoch's figures by name."""

    def close(self, status: str) -> None:
        """Training has ended: FINISHED, KILLED by a signal, or FAILED."""


class TensorBoard:
    """Event files in the run folder, without TensorFlow; each process that trains adds one."""

    def __init__(self, run: Run) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.epoch, self._event, self._summary = 0, Event, Summary
        name = f"events.out.tfevents.{time.time_ns()}"  # read in the order of their names
        self._file = RecordWriter((run.path / name).open("xb"))
        self._write(file_version="brain.Event:2")
        # It begins anew: a reader forgets what the files before this one said.
        self._write(session_log=SessionLog(status=SessionLog.START), step=0)

    def _write(self, **values: Any) -> None:
        self._file.write(self._event(wall_time=time.time(), **values).SerializeToString())
        self._file.flush()

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Append an event."""
        value = self._summary.Value
        tagged = [value(tag=name, simple_value=number) for name, number in values.items()]
        self._write(step=epoch, summary=self._summary(value=tagged))

    def close(self, status: str) -> None:
        """Close the file."""
        self._file.close()


class MLflow:
    """A run of the server that MLFLOW_TRACKING_URI names; env.json keeps its id for `--resume`."""

    def __init__(self, run: Run) -> None:
        for name, value in MLFLOW.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._run, self._client = run, MlflowClient()
        if "mlflow" in run.env:
            there = self._client.get_run(run.env["mlflow"])
            self._client.update_run(there.info.run_id, status="RUNNING")
        else:
            there = self._create()
            run.change_env(mlflow=there.info.run_id)
        self._id, self.epoch = there.info.run_id, int(there.data.metrics.get("epoch", 0))

    def _create(self) -> Any:
        from mlflow.entities import Param

        client, run = self._client, self._run
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "fmnist")
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        tags = {key: str(run.env.get(key)) for key in ("fmnist", "commit", "device", "precision")}
        tags |= {"folder": str(run.path.resolve()), "data": run.env["data"]["name"]}
        made = client.create_run(experiment, run_name=run.name, tags=tags)
        fields = [Param(key, str(value)) for key, value in flat(run.recipe_json).items()]
        client.log_batch(made.info.run_id, params=fields)
        return made

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Send the figures as metrics of this step."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        metrics = [Metric(name, value, now, epoch) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, status: str) -> None:
        """Send the files of a finished run, and how it ended."""
        if status == "FINISHED":
            for name in ARTIFACTS:
                if (self._run.path / name).exists():
                    self._client.log_artifact(self._id, str(self._run.path / name))
        self._client.set_terminated(self._id, status)


TRACKERS: dict[str, Callable[[Run], Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


def require(name: str) -> None:
    """Raise UsageError for a tracker that is unknown, not installed or not set up."""
    if name not in TRACKERS:
        raise UsageError(f"--log: expected one of {', '.join(TRACKERS)}, received {name!r}")
    if find_spec(name) is None:
        raise UsageError(
            f"--log {name}: needs more packages ({name} is missing): {to_install(name)}"
        )
    if name == "mlflow" and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise UsageError(
            "--log mlflow: expected MLFLOW_TRACKING_URI to name a server, such as "
            "http://127.0.0.1:5000, found none; set it"
        )


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A recipe's fields by name, and the options of its model as `model.NAME`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        named = f"{before}{key}"
        found |= flat(value, f"{named}.") if isinstance(value, Mapping) else {named: value}
    return found


class Log:
    """Keeps a tracker up with a run. Called at the end of an epoch, after its line was written."""

    def __init__(self, name: str, run: Run, say: Callable[[str], object]) -> None:
        self.name, self.run, self.say = name, run, say
        self.tracker: Tracker | None = None
        self._not_before, self._told = 0.0, False

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Send the epochs that the tracker does not have, unless it failed a moment ago."""
        if time.monotonic() >= self._not_before:
            self._attempt(self._catch_up)

    def end(self, status: str) -> None:
        """Send what is left and the scores; training has ended in `status` of `Tracker.close`."""
        self._attempt(self._catch_up, self._scores, lambda tracker: tracker.close(status))

    def _catch_up(self, tracker: Tracker) -> None:
        for line in self.run.metrics():
            if line.get("epoch", 0) > tracker.epoch:
                tracker.write(line["epoch"], {k: v for k, v in line.items() if v is not None})
                tracker.epoch = line["epoch"]

    def _scores(self, tracker: Tracker) -> None:
        figures = ("accuracy", "loss", "expected_calibration_error", "n")
        scores = self.run.scores.items()
        values = {
            f"score/{split}/{name}": score[name] for split, score in scores for name in figures
        }
        if values:
            tracker.write(tracker.epoch, values)

    def _attempt(self, *steps: Callable[[Tracker], object]) -> None:
        begin = time.monotonic()
        try:
            if self.tracker is None:
                require(self.name)
                self.tracker = TRACKERS[self.name](self.run)
            for step in steps:
                step(self.tracker)
        except Exception as error:  # those of trackers have no common kind
            self._not_before = time.monotonic() + PATIENCE * (time.monotonic() - begin)
            if not self._told:
                self.say(f"note: --log {self.name}: {reason(error)}; training goes on without it")
            self._told = True


def reason(error: BaseException) -> str:
    """The first line of the error from which another came at last, such as a refused connection."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0])[:300]


@contextlib.contextmanager
def followed(run: Run | None, say: Callable[[str], object]) -> Iterator[list[Log]]:
    """The logs of a run that this block trains, to be called at the end of each epoch."""
    logs = [Log(name, run, say) for name in run.env.get("log", [])] if run else []
    for log in logs:
        log({})
    status = "FAILED"
    try:
        yield logs
        status = "FINISHED"
    except Interrupted:
        status = "KILLED"
        raise
    finally:
        for log in logs:
            log.end(status)


def send_scores(run: Run, say: Callable[[str], object]) -> None:
    """Send the scores that a finished run has got since its training."""
    for name in run.env.get("log", []):
        Log(name, run, say).end("FINISHED")
