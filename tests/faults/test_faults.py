"""A few of the faults of `chaos.py`; `make chaos` does them all, by the dozen."""

import pytest
from chaos import appended_at_once, full_disk, one_of_each
from lab import Lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("lab"))


def test_killed_and_terminated_a_run_ends_bit_for_bit_equal(lab):
    assert one_of_each(lab) == 3


def test_a_full_disk_costs_no_checkpoint(lab):
    if not full_disk(lab):
        pytest.skip("not allowed to mount a small file system here")


def test_many_processes_append_whole_lines(lab):
    assert appended_at_once(lab, 12) == 12
