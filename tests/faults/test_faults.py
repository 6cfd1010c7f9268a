"""A run that is killed, terminated and resumed; `make chaos` does all of `chaos.py`.

What fills a disk, takes a folder away or appends at once has its small form in tests/runs.
"""

from chaos import killed_and_terminated
from commands import call
from lab import Lab, result


def test_killed_and_terminated_a_run_ends_bit_for_bit_equal(tmp_path):
    """To what this process makes of the recipe: that two runs are equal, tests/training says."""
    lab = Lab(tmp_path)
    whole = lab.folder()
    done = call(*lab.training("compact", whole))
    assert done.code == 0, done.err
    lab.whole["compact"] = result(whole)
    assert killed_and_terminated(lab) == 2
