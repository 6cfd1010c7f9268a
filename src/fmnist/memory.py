"""How much memory training takes, and the largest micro-batch that fits a limit."""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from fmnist.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_size(text: str) -> int:
    """`4GB`, `512MiB` or a number of bytes, as bytes. Raises UsageError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?i?)b?\s*", text.lower())
    if not match or match[2] not in _UNITS:
        raise UsageError(f"memory: expected a size such as 4GB or 512MiB, received {text!r}")
    return int(float(match[1]) * _UNITS[match[2]])


def _status(key: str) -> int | None:
    """A size from the kernel's account of this process, in bytes; None off Linux."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(text.split(f"{key}:")[1].split()[0]) * 1024
    return None


def peak() -> int | None:
    """The most resident memory this process had since it began or `reset_peak`, in bytes."""
    return _status("VmHWM")


def reset_peak() -> bool:
    """Start the account of `peak` anew; False where the system has no such thing."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return _status("VmHWM") is not None


def available() -> int | None:
    """What this process can have in all, in bytes: its own memory and what the system has free."""
    sizes = []
    with contextlib.suppress(OSError, IndexError, ValueError):
        text = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace")
        free = int(text.split("MemAvailable:")[1].split()[0]) * 1024
        sizes.append(free + (_status("VmRSS") or 0))
    with contextlib.suppress(OSError, ValueError):  # a container's limit; "max" where it has none
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    if not sizes and hasattr(os, "sysconf"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(sizes) if sizes else None


def largest_micro_batch(
    try_out: Callable[[int], None], batch: int, limit: int
) -> tuple[int, dict[int, int]]:
    """The largest micro-batch whose update stays within `limit` bytes of resident memory.

    `try_out(m)` must run updates with micro-batch m; it is called with two small ones, and since
    activations grow in proportion to the images, the rest is a straight line through the two peaks
    (with a tenth of the room kept as margin). Returns the micro-batch and the peaks measured.

    Raises UsageError where the smallest does not fit or the system gives no account of peaks.
    """
    peaks: dict[int, int] = {}
    for size in sorted({min(4, batch), min(16, batch)}):
        if not reset_peak():
            raise UsageError("memory: this system keeps no account of it; use --micro-batch N instead")
        try_out(size)
        peaks[size] = peak() or 0
        if peaks[size] > limit:
            break
    sizes = list(peaks)
    if peaks[sizes[0]] > limit:
        raise UsageError(
            f"memory: {peaks[sizes[0]] / 1e9:.2f} GB were needed with a micro-batch of {sizes[0]}, "
            f"more than the {limit / 1e9:.2f} GB allowed; allow more, or choose a smaller model"
        )
    if len(sizes) == 1 or peaks[sizes[1]] > limit:
        return sizes[0], peaks
    slope = max((peaks[sizes[1]] - peaks[sizes[0]]) / (sizes[1] - sizes[0]), 1)
    room = 0.9 * (limit - peaks[sizes[1]])
    fits = min(batch, sizes[1] + int(room / slope))
    # Divisions into equal parts waste least: the fewest parts, then the size that they need.
    parts = -(-batch // fits)
    return -(-batch // parts), peaks
