"""Trials on a Ray cluster: what comes back, refusals, and a node that is lost on the way.

The test on a real cluster of three nodes is `slow` and wants the extra `cluster`: `make cluster`.
"""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import call, refused
from idx import write_idx_set
from test_sweep import SEED, SMALL, outcome

from fmnist.runs.run import Run
from fmnist.search import cluster
from fmnist.search.sweep import Sweep

SETTINGS = [f"--set={name}={value}" for name, value in SMALL.items()]
EPOCHS = 200  # long enough to be met at work
OVER = ["--over=model.filters=4/4,4", "--over=model.pool_after=1/2", "--over=momentum=0.5..0.9"]


def test_a_run_folder_comes_back_as_it_was(tmp_path):
    contents = {"recipe.json": b"{}", "weights.safetensors": bytes(range(256)) * 9, "lock": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "000000001.json").write_text("{}")
    assert cluster.contents(tmp_path) == contents
    assert cluster.contents(tmp_path / "never begun") == {}


def test_as_many_trials_at_once_as_the_nodes_have_room_for():
    nodes = [
        {"Alive": True, "Resources": {"CPU": 7.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": True, "Resources": {}},  # a head may have nothing
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    assert cluster.room(nodes, 1, 0) == 10
    assert cluster.room(nodes, 2, 0) == 4
    assert cluster.room(nodes, 8, 0) == 0
    assert cluster.room(nodes, 1, 1) == 1
    assert cluster.room(nodes, 1, 0.2) == 5
    assert cluster.room(nodes, 1, 0.1) == 7


def run_cli(*words, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "fmnist", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed here")
def test_without_ray_it_says_what_to_install(tmp_path):
    said = refused(call("sweep", *OVER, "--ray=auto", f"--out={tmp_path / 's'}"), 2)
    assert 'pip install -e ".[cluster]"' in said
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make cluster")
@pytest.mark.parametrize("address", ["localhost:1", "nonsense", "ray://localhost:10001"])
def test_where_no_cluster_is_one_line_says_so(tmp_path, address):
    process = run_cli("sweep", *OVER, f"--ray={address}", f"--out={tmp_path / 's'}")
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.startswith(f"error: --ray {address}: expected a Ray cluster")
    assert said.count("\n") == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--cpus-per-trial=2"], "--ray"),
        (["--gpus-per-trial=0.5"], "--ray"),
        (["--ray=auto", "--cpus-per-trial=0"], "--cpus-per-trial"),
        (["--ray=auto", "--gpus-per-trial=2"], "--gpus-per-trial"),
    ],
)
def test_shares_that_cannot_be_are_refused(tmp_path, words, why):
    done = call("sweep", *OVER, *words, f"--out={tmp_path / 's'}")
    assert done.code == 2, done
    assert why in done.err
    assert not (tmp_path / "s").exists()


# a real cluster


def one_core():
    """So that a local trial has as many threads as one on the cluster: the sums round alike."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def trial_processes(place):
    """The trials that run in a node's folder for temporary files."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if b"fmnist.search.cluster" in words and any(os.fsencode(place) in word for word in words):
            found.append(int(path.parent.name))
    return found


def wait_for(what, process):
    while not (seen := what()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return seen


@pytest.fixture
def ray_cluster(tmp_path, monkeypatch):
    """Three nodes of a core each, each with its own folder for temporary files."""
    pytest.importorskip("ray", reason="Ray is not installed: make cluster")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    for number in range(3):
        (tmp_path / f"node{number}").mkdir()
    options = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    made = Cluster(
        initialize_head=True,
        head_node_args={**options, "env_vars": {"TMPDIR": str(tmp_path / "node0")}},
    )
    others = [
        made.add_node(**options, env_vars={"TMPDIR": str(tmp_path / f"node{number}")})
        for number in (1, 2)
    ]
    yield made, others
    made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.filterwarnings("ignore")  # Ray's own, of files that it leaves open
def test_a_sweep_on_a_cluster_is_the_local_one_also_when_a_node_is_lost(ray_cluster, tmp_path):
    """Stopped by Ctrl-C, gone on with, and one of three nodes killed at work on a trial."""
    made, others = ray_cluster
    data = write_idx_set(tmp_path / "data", height=12, width=12)
    words = [
        "quick",
        *SETTINGS,
        f"--set=epochs={EPOCHS}",
        *OVER,
        f"--data={data}",
        f"--seed={SEED}",
    ]
    ray = [f"--ray={made.address}", "--cpus-per-trial=1"]
    local, there = tmp_path / "one" / "same", tmp_path / "two" / "same"

    process = run_cli("sweep", *words, *ray, f"--out={there}", "--trials=5")
    begun = "fmnist-*/run/metrics.jsonl"
    wait_for(lambda: list(tmp_path.glob(f"node?/{begun}")), process)
    assert len(Sweep(there).rows()) >= 3  # as many at once as there is room for
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 128 + signal.SIGINT, said
    assert "stopped in trial 0, 1" in said
    assert f"sweep --resume {there}" in said
    assert not trial_processes(tmp_path)
    assert not list(tmp_path.glob("node?/fmnist-*"))

    process = run_cli("sweep", "--resume", there, *ray, "--trials=5")
    # The head stays, but at least one of trials 0 and 1 is at work elsewhere.
    met = wait_for(lambda: list(tmp_path.glob(f"node[12]/{begun}")), process)
    number = int(met[0].relative_to(tmp_path).parts[0].removeprefix("node"))
    (killed,) = trial_processes(tmp_path / f"node{number}")
    made.remove_node(others[number - 1], allow_graceful=False)
    wait_for(lambda: not Path(f"/proc/{killed}").exists(), process)  # a lost trial is no orphan
    out, said = process.communicate()
    assert process.returncode == 0, said
    assert "best: trial" in out

    process = run_cli("sweep", *words, f"--out={local}", "--trials=5", preexec_fn=one_core)
    _, said = process.communicate()
    assert process.returncode == 0, said
    rows = outcome(there)
    assert rows == outcome(local)
    assert [(row["trial"], row["state"], len(row["history"])) for row in rows] == [
        (0, "complete", EPOCHS),
        (1, "complete", EPOCHS),
        (2, "failed", 0),
        (3, "failed", 0),
        (4, "complete", EPOCHS),
    ]
    for row in rows:
        if row["state"] == "complete":
            run = Run(there / "trials" / row["run"])
            run.load_logits("val")
            assert run.env["threads"] == 1
    assert {path.name for path in there.iterdir()} == {path.name for path in local.iterdir()}
