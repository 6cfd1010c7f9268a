"""How much memory training takes, and the largest micro-batch that fits a limit."""

import contextlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from fmnist.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_size(text: str, what: str = "memory") -> int:
    """`4GB`, `512MiB` or a number of bytes, as bytes. Raises UsageError."""
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([kmg]?i?)b?\s*", text.lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else 0
    if size < 1:
        raise UsageError(f"{what}: expected a size such as 4GB or 512MiB, received {text!r}")
    return size


def _status(key: str) -> int | None:
    """A size from the kernel's account of this process, in bytes; None off Linux."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(text.split(f"{key}:")[1].split()[0]) * 1024
    return None


def peak() -> int | None:
    """The most resident memory this process has had, in bytes; None where none can say."""
    on_linux = _status("VmHWM")
    if on_linux is not None:
        return on_linux
    try:
        import resource
    except ModuleNotFoundError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def available() -> int | None:
    """What this process can have in all, in bytes: its own memory and what the system has free."""
    sizes = []
    with contextlib.suppress(OSError, IndexError, ValueError):
        text = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace")
        free = int(text.split("MemAvailable:")[1].split()[0]) * 1024
        sizes.append(free + (_status("VmRSS") or 0))
    if (limit := container_limit()) is not None:
        sizes.append(limit)
    if not sizes and hasattr(os, "sysconf"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(sizes) if sizes else None


def container_limit() -> int | None:
    """The least memory limit of this process' control groups, in bytes; None where none is set."""
    texts = group_settings("memory.max", "memory", "memory.limit_in_bytes")
    # The old hierarchy writes 2⁶³ less a page for no limit, the new one "max".
    return min((int(t) for t in texts if t.isdecimal() and int(t) < 2**62), default=None)


def group_settings(new: str, controller: str, old: str, root: Path = Path("/")) -> list[str]:
    """What a setting of control groups is for this process' group and those around it.

    `new` is the file's name in the second hierarchy, `old` that in the first, where each
    `controller` has a tree of its own. A container may see its own group as the root of the tree.
    """
    texts = []
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            base, file = root / "sys/fs/cgroup" / controllers, old if controllers else new
            group = PurePosixPath(path.lstrip("/"))
            for each in (group, *group.parents):
                with contextlib.suppress(OSError):
                    texts.append((base / each / file).read_text(encoding="ascii").strip())
    return texts


def largest_micro_batch(
    peak_of: Callable[[int], int | None], batch: int, room: int, asked: int | None = None
) -> tuple[int, dict[int, int]]:
    """The largest micro-batch whose updates stay within `room` bytes of resident memory.

    `peak_of(m)` measures updates with micro-batch m, in bytes, or None where they did not survive.
    Activations grow in proportion to the images, so two small sizes give the line that the rest
    follows; a tenth of what is left stays as margin. If one is `asked` for, only that is measured.
    Returns the micro-batch and the peaks.

    Raises UsageError where not even the smallest fits.
    """
    peaks: dict[int, int] = {}
    sizes = {min(asked, batch)} if asked else {min(8, batch), min(32, batch)}
    for size in sorted(sizes):
        measured = peak_of(size)
        if measured is None or measured > room:
            if not peaks:
                needed = "more" if measured is None else f"{measured / 1e9:.2f} GB"
                raise UsageError(
                    f"memory: expected updates with a micro-batch of {size} to fit the "
                    f"{room / 1e9:.2f} GB that data and saving leave, they took {needed}; "
                    "allow more memory, give --micro-batch, or choose a smaller model"
                )
            break
        peaks[size] = measured
    (small, low), (large, high) = min(peaks.items()), max(peaks.items())
    slope = max((high - low) / max(large - small, 1), 1)
    fits = min(batch, large + int(0.9 * (room - high) / slope)) if large > small else small
    # Equal parts waste least: as few as can be, then the size that they need.
    return -(-batch // -(-batch // fits)), peaks
