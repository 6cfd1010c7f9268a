"""Sizes as people write them, and a micro-batch that keeps what it promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist import memory
from fmnist.errors import UsageError

MB = 10**6
on_linux = pytest.mark.skipif(
    not memory.reset_peak(), reason="the system keeps no account of peaks"
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9), ("4gb", 4 * 10**9), ("4 G", 4 * 10**9), ("1.5GiB", 3 * 2**29),
        ("512MiB", 2**29), ("512Mi", 2**29), ("100k", 10**5), ("7", 7), ("7B", 7), (" 2KiB ", 2048),
    ],
)  # fmt: skip
def test_sizes_as_people_write_them(text, size):
    assert memory.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1GB", "4TB", "4ib", "1e9", "nan", "inf", "4GB4", "0", "0GB", "0.1", "٣ GB x"]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="such as 4GB or 512MiB, received"):
        memory.parse_size(text)


@given(st.text() | st.from_regex(r"\d+(\.\d+)?[kmgKMG]?i?[bB]?", fullmatch=True))
def test_any_text_is_a_size_or_a_usage_error(text):
    try:
        assert memory.parse_size(text) > 0
    except UsageError as error:
        assert repr(text) in str(error)


@given(st.integers(1, 10**6), st.sampled_from(["k", "m", "g"]))
def test_binary_units_are_larger(count, unit):
    decimal, binary = (memory.parse_size(f"{count}{unit}{i}B") for i in ("", "i"))
    assert decimal == count * 1000 ** ("kmg".index(unit) + 1)
    assert binary == count * 1024 ** ("kmg".index(unit) + 1)


@on_linux
def test_peak_counts_what_was_held_and_begins_anew():
    assert memory.reset_peak()
    before = memory.peak()
    held = np.ones(100 * MB, np.uint8)
    with_it = memory.peak()
    assert 90 * MB < with_it - before < 150 * MB
    del held
    assert memory.peak() >= with_it
    assert memory.reset_peak()
    assert memory.peak() < with_it - 80 * MB


@on_linux
def test_available_is_more_than_is_used_and_less_than_there_is():
    total = int(open("/proc/meminfo").read().split("MemTotal:")[1].split()[0]) * 1024  # noqa: PTH123, SIM115
    assert 10 * MB < memory.available() <= 1.01 * total + memory.peak()


def use(size):
    """Hold as much memory for each image as a real update might, and let it go."""
    np.ones(size * 2 * MB, np.uint8)


@on_linux
@pytest.mark.parametrize("batch", [64, 100])
def test_the_largest_micro_batch_fits_and_is_not_much_too_small(batch):
    use(16)
    memory.reset_peak()
    limit = memory.peak() + 110 * MB  # room for 55 images
    size, peaks = memory.largest_micro_batch(use, batch, limit)
    assert list(peaks) == [4, 16]
    memory.reset_peak()
    use(size)
    assert memory.peak() <= limit
    parts = -(-batch // size)
    assert size == -(-batch // parts), "no smaller micro-batch needs as few parts"
    assert 25 <= size <= 55


@on_linux
@pytest.mark.parametrize("batch", [1, 3, 4, 10, 16, 40])
def test_with_room_enough_the_batch_is_left_whole(batch):
    tried = []
    size, peaks = memory.largest_micro_batch(tried.append, batch, 2**50)
    assert size == batch
    assert sorted(peaks) == tried == sorted({min(4, batch), min(16, batch)})


@on_linux
def test_between_the_two_trials_the_smaller_is_taken():
    memory.reset_peak()
    size, peaks = memory.largest_micro_batch(use, 64, memory.peak() + 20 * MB)
    assert size == 4
    assert peaks[16] > peaks[4]


@on_linux
def test_too_little_memory_says_how_much_was_needed():
    memory.reset_peak()
    with pytest.raises(UsageError, match=r"GB were needed with a micro-batch of 4, more than the"):
        memory.largest_micro_batch(use, 64, memory.peak() + MB)


def test_the_division_is_even(batch, room):
    assume(room > 0)
    limit = memory.peak() + room * 10 * MB
    size, _ = memory.largest_micro_batch(lambda size: None, batch, limit)
    assert 1 <= size <= batch
    parts = -(-batch // size)
    assert parts == 1 or (parts - 1) * size < batch <= parts * size
