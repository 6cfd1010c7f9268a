"""What this machine is and has: processor, memory, control groups, and the checkout's commit."""

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any, TextIO


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


def native_bfloat16() -> str:
    """What the processor multiplies bfloat16 with, AMX or AVX512-BF16; empty where nothing.

    Names of processors do not tell, at least not in virtual machines, and AMX is three times as
    fast.
    """
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        for flag, known_as in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")):
            if flag in flags:
                return known_as
    return ""


def processor() -> str:
    """The name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> dict[str, Any]:
    """The commit of the checkout that this package runs from, and whether it has changes."""
    here = Path(__file__).resolve().parent
    if not (here.parents[1] / ".git").exists():
        return {"commit": None, "dirty": None}

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def print_message(line: str, stream: TextIO | None = None) -> None:
    """Print a line on a stream, stderr by default, and go on where it cannot be written.

    A full disk or a closed terminal is no reason to lose a training.
    """
    stream = stream or sys.stderr
    if stream is None:  # a process without one
        return
    try:
        print(line, file=stream, flush=True)
    except (OSError, ValueError):  # of a closed stream
        send_nowhere(stream)


def send_nowhere(stream: TextIO) -> None:
    """Let what is written to a stream, and what Python still holds for it, go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def limit_memory(size: int) -> None:
    """Let this process take no more bytes of its own; not on Windows."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    with contextlib.suppress(OSError, ValueError):  # not every system takes it
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def usable_processors() -> int:
    """How many processors this process may use, which onnxruntime does not ask."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
