"""A sweep's trials on a Ray cluster: Optuna proposes here, `fmnist train` runs there.

A trial is a Ray task. It starts the same process as a local sweep, in a folder of its node, and
returns the files of the run folder. If a node fails, Ray starts the trial again with the same
values. The storage learns of a trial once, when its folder has arrived here, so none is counted
twice. Trials are not stopped early.

Ray unpickles messages between its machines, so anyone who reaches its ports can run code on it.
"""

import json
import logging
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist import files
from fmnist.errors import FmnistError, UsageError, to_install

if TYPE_CHECKING:
    from fmnist.search.outcome import Rows
    from fmnist.search.sweep import Sweep

POLL_SECONDS = 0.3
CONNECT_SECONDS = 10
RETRIES = 10  # of a trial whose node, or worker there, is lost
STOP_SECONDS = 10  # in which the trials that run have to end when the sweep is stopped


def connect(address: str, cpus: int, gpus: float) -> None:
    """Join a Ray cluster: HOST:PORT, `auto` for the one of this machine, `local` to start one here.

    Raises UsageError where Ray is not installed, FmnistError where there is no such cluster or
    none of its nodes has so many CPUs and GPUs.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--ray needs more packages ({error.name} is missing): {to_install('cluster')}"
        ) from None
    try:
        if address not in ("auto", "local"):  # Ray itself would try for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FmnistError(
            f"--ray {address}: expected a Ray cluster that this machine is part of, found none "
            f"({why}); join or start one with ray start"
        ) from None
    if not room(ray.nodes(), cpus, gpus):
        raise FmnistError(
            f"--ray {address}: expected a node with {cpus} CPUs and {gpus:g} GPUs for a trial, "
            f"found {_described(ray.nodes())}"
        )


def room(nodes: Iterable[Mapping[str, Any]], cpus: int, gpus: float) -> int:
    """How many trials fit at once on the nodes that are alive; `nodes` as of `ray.nodes()`."""
    count = 0
    for node in nodes:
        if node["Alive"]:
            fit = node["Resources"].get("CPU", 0) / cpus
            if gpus:
                fit = min(fit, node["Resources"].get("GPU", 0) / gpus)
            count += int(fit + 1e-9)  # ten tenths of a GPU are one
    return count


def _described(nodes: Iterable[Mapping[str, Any]]) -> str:
    resources = [
        f"{node['Resources'].get('CPU', 0):g} and {node['Resources'].get('GPU', 0):g}"
        for node in nodes
        if node["Alive"]
    ]
    return ", ".join(resources) or "none"


def search(
    sweep: "Sweep",
    trials: int,
    minutes: float = float("inf"),
    show: Callable[["Rows"], object] = lambda rows: None,
    *,
    cpus: int = 1,
    gpus: float = 0,
) -> None:
    """`Sweep.search` with the trials on the cluster that `connect` joined, as many as fit at once.

    Each trial has `cpus` processor cores and `gpus` GPUs (a fraction is allowed) to itself. A trial
    that ran when the sweep was stopped starts again with the same values.
    """
    import ray
    from optuna.pruners import NopPruner

    end = time.monotonic() + 60 * minutes
    sweep.study.pruner = NopPruner()
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(run_trial)
    tasks: dict[Any, Any] = {}  # the trial of each task

    def next_trial() -> Any:
        busy = {trial.number for trial in tasks.values()}
        if len(busy) >= max(1, room(ray.nodes(), cpus, gpus)):
            return None
        return sweep.next_trial(trials, end, busy)

    with sweep.at_work() as (_, stop):
        try:
            while not stop:
                while trial := next_trial():
                    show(sweep.rows())
                    if sweep.needs_training(trial):
                        words = sweep.words_of(trial)
                        base, env = sweep.recipe.to_json(), environment(sweep.about["backend"])
                        tasks[task.remote(base, words, env, cpus)] = trial
                    else:
                        sweep.finish(trial, 0, show)
                if not tasks:
                    return
                for done in ray.wait(list(tasks), timeout=POLL_SECONDS)[0]:
                    trial = tasks.pop(done)
                    code = _receive(done, sweep.path, sweep.folder_of(trial.number))
                    sweep.finish(trial, code, show)
            sweep.interrupted(stop, sorted(trial.number for trial in tasks.values()))
        finally:
            for left in tasks:
                ray.cancel(left)
            if tasks:
                ray.wait(list(tasks), num_returns=len(tasks), timeout=STOP_SECONDS)


def _receive(task: Any, sweep: Path, folder: Path) -> int:
    """Put a trial's run folder in its place, whole or not at all; its process's exit code."""
    import ray

    try:
        code, said, arrived = ray.get(task)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        why = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        code, said, arrived = 1, f"error: the cluster did not return the trial ({why})\n", {}
    with folder.with_suffix(".txt").open("a", encoding="utf-8") as file:
        file.write(said)
    arriving = sweep / f".{folder.name}.tmp"
    for old in (arriving, folder):  # which a sweep that was cut off has left
        shutil.rmtree(old, ignore_errors=True)
    if arrived:
        arriving.mkdir()
        for name, content in arrived.items():
            files.write_whole(arriving / name, lambda path, c=content: path.write_bytes(c))  # type: ignore[misc]
        arriving.rename(folder)
    return int(code)


def environment(backend: str) -> dict[str, str]:
    """The variables of a trial's process: the engine, and where `--log mlflow` sends it."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")
    return {"KERAS_BACKEND": backend} | {k: os.environ[k] for k in names if k in os.environ}


# on the node


def run_trial(
    base: Mapping[str, Any], words: Sequence[str], variables: Mapping[str, str], cpus: int
) -> tuple[int, str, dict[str, bytes]]:
    """Train a trial in a process: its exit code, what it said, and its run folder's files."""
    with tempfile.TemporaryDirectory(prefix="fmnist-") as name:
        place = Path(name)
        (place / "base.json").write_text(json.dumps(base), encoding="utf-8")
        command = ["train", str(place / "base.json"), "--run", str(place / "run"), *words]
        env = os.environ | variables
        env.pop("FMNIST_DATA", None)
        with (place / "said.txt").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "fmnist.search.cluster", str(cpus), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=env,
            )
        try:
            while process.poll() is None:  # so that cancelling the task gets through
                time.sleep(POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        text = (place / "said.txt").read_text("utf-8", errors="replace")
        return process.returncode, text, contents(place / "run")


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a run folder by name, checkpoints left out; none where there is no folder."""
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def _end_with_the_task() -> None:
    """End this process when the one that holds the other end of its input has gone."""
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    """`python -m fmnist.search.cluster CPUS train …`: the command on so many threads."""
    threading.Thread(target=_end_with_the_task, daemon=True).start()
    cpus = int(sys.argv.pop(1))
    try:
        from fmnist.engine import backend

        backend.use_threads(cpus)
    except FmnistError as error:
        sys.exit(f"error: {error}")
    runpy.run_module("fmnist", run_name="__main__")


if __name__ == "__main__":
    main()
