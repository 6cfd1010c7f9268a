"""A run that is killed, terminated and resumed; `make chaos` does all of `chaos.py`.

What fills a disk, takes a folder away or appends at once has its small form in tests/runs.
"""

from chaos import killed_and_terminated
from lab import Lab


def test_killed_and_terminated_a_run_ends_bit_for_bit_equal(tmp_path):
    """That two uninterrupted runs are equal, tests/training says."""
    assert killed_and_terminated(Lab(tmp_path, references=1)) == 2
