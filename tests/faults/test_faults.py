"""A run that is killed, terminated and resumed; `make chaos` does all of `chaos.py`.

What fills a disk, takes a folder away or appends at once has its small form in tests/runs.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from chaos import killed_and_terminated
from commands import call
from lab import Lab, result

from fmnist.runs.run import Run


def test_killed_and_terminated_a_run_ends_bit_for_bit_equal(tmp_path):
    """To what this process makes of the recipe: that two runs are equal, tests/training says."""
    lab = Lab(tmp_path)
    whole = lab.folder()
    done = call(*lab.training("compact", whole))
    assert done.code == 0, done.err
    lab.whole["compact"] = result(whole)
    assert killed_and_terminated(lab) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has such a device")
@pytest.mark.parametrize("closed", [False, True])
def test_what_is_printed_is_not_worth_a_training(small_set, tmp_path, closed):
    """A log on a full disk, and a stderr that is closed."""
    words = ["train", "tiny", "--data", small_set, "--run", tmp_path / "run", "--set", "epochs=1"]
    command = shlex.join([sys.executable, "-m", "fmnist", *map(str, words)])
    done = subprocess.run(
        ["sh", "-c", f"{command} 2>{'&-' if closed else '/dev/full'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert "val accuracy" in done.stdout
    assert Run(tmp_path / "run").finished
