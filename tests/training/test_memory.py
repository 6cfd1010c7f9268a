"""Sizes as people write them, and a micro-batch that keeps what it promises."""

import contextlib
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist import system
from fmnist.cli.options import parse_size
from fmnist.errors import UsageError
from fmnist.training.micro_batch import largest_micro_batch

MB = 10**6
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's account is Linux's")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("4gb", 4 * 10**9),
        ("4 G", 4 * 10**9),
        ("1.5GiB", 3 * 2**29),
        ("512MiB", 2**29),
        ("512Mi", 2**29),
        ("100k", 10**5),
        ("7B", 7),
        (" 2KiB ", 2048),
    ],
)
def test_sizes_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "4000000000",
        "GB",
        "-1GB",
        "4TB",
        "4ib",
        "1e9",
        "nan",
        "inf",
        "4GB4",
        "0",
        "0GB",
        "0.1",
        "٣ GB x",
    ],
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="such as 4GB or 512MiB, received"):
        parse_size(text)


@given(st.text() | st.from_regex(r"\d+(\.\d+)?[kmgKMG]?i?[bB]?", fullmatch=True))
def test_any_text_is_a_size_or_a_usage_error(text):
    with contextlib.suppress(UsageError):
        assert parse_size(text) > 0


@given(st.integers(1, 10**6), st.sampled_from(["k", "m", "g"]))
def test_binary_units_are_larger(count, unit):
    decimal, binary = (parse_size(f"{count}{unit}{i}B") for i in ("", "i"))
    assert decimal == count * 1000 ** ("kmg".index(unit) + 1)
    assert binary == count * 1024 ** ("kmg".index(unit) + 1)


HOLD = """if True:
    import sys
    from fmnist import system
    held = b"x" * int(sys.argv[1])  # bytes that are really there
    print(system.peak())
    """


def peak_of(size, image=2 * MB):
    """The peak of a process that holds `image` bytes for each image of a micro-batch."""
    command = [sys.executable, "-c", HOLD, str(size * image)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@on_linux
def test_peak_counts_what_was_held():
    assert 95 * MB < peak_of(50) - peak_of(0) < 115 * MB


def test_peak_never_falls():
    before = system.peak()
    held = bytes(10 * MB)
    assert system.peak() >= before
    del held
    assert system.peak() >= before


@on_linux
def test_available_is_no_more_than_there_is():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 10 * MB < system.available() <= 1.01 * total


@on_linux
@pytest.mark.parametrize("batch", [64, 100])
def test_the_largest_micro_batch_fits_and_is_not_much_too_small(batch):
    room = peak_of(0) + 110 * MB  # for 55 images
    size, peaks = largest_micro_batch(peak_of, batch, room)
    assert len(peaks) == 2
    assert peak_of(size) <= room
    parts = -(-batch // size)
    assert size == -(-batch // parts), "no smaller micro-batch needs as few parts"
    assert 25 <= size <= 55


@given(
    fixed=st.integers(0, 10**9),
    image=st.integers(1, 10**8),
    batch=st.integers(1, 4096),
    room=st.integers(0, 10**11),
)
def test_it_fits_whatever_an_image_takes(fixed, image, batch, room):
    measured = []

    def line(size):
        measured.append(size)
        return fixed + image * size

    smallest = min(8, batch)
    if line(smallest) > room:
        with pytest.raises(UsageError, match="memory: expected updates with a micro-batch of"):
            largest_micro_batch(line, batch, room)
        return
    size, peaks = largest_micro_batch(line, batch, room)
    assert 1 <= size <= batch
    assert fixed + image * size <= room
    assert all(peak <= room for peak in peaks.values())
    assert peaks.items() <= {n: fixed + image * n for n in measured}.items()
    parts = -(-batch // size)
    assert size == -(-batch // parts)
    if fixed + image * batch * 1.2 <= room:
        assert size == batch, "with room enough the batch is left whole"


def test_a_trial_that_did_not_survive_is_no_measurement():
    size, peaks = largest_micro_batch(lambda n: None if n > 8 else 10**9, 256, 2 * 10**9)
    assert (size, list(peaks)) == (8, [8])
    with pytest.raises(UsageError, match=r"2\.00 GB .* took more; allow more memory"):
        largest_micro_batch(lambda n: None, 256, 2 * 10**9)


def test_too_little_memory_says_how_much_was_needed():
    with pytest.raises(UsageError, match=r"fit the 1\.00 GB .* took 3\.00 GB"):
        largest_micro_batch(lambda n: 3 * 10**9, 256, 10**9)
