"""What the faults are done to: `fmnist` in its own process, and runs that nothing interrupts."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "helpers")]

from idx import write_idx_set  # noqa: E402

from fmnist.runs.run import Run  # noqa: E402

# Everything that is random or has a state, under the one-cycle schedule: two networks, batch
# statistics, crop, flip and cutout with Muon, and dropout and micro-batches too with AdamW, each in
# both precisions.
COMPACT = [
    "quick",
    "--set",
    "model.filters=4,4,8",
    "--set",
    "model.pool_after=1,3",
    "--set",
    "model.shortcuts=2",
]
PLAIN = [
    "reference",
    "--set",
    "model.filters=4,6",
    "--set",
    "model.dense_units=8",
    "--micro-batch",
    "20",
]
SHORT = [
    "--set",
    "crop=2",
    "--set",
    "cutout=6",
    "--set",
    "epochs=20",
    "--set",
    "batch_size=50",
    "--set",
]
KINDS = {
    "compact": [*COMPACT, *SHORT, "precision=float32"],
    "compact, bfloat16": [*COMPACT, *SHORT, "precision=bfloat16"],
    "plain": [*PLAIN, *SHORT, "precision=float32"],
    "plain, bfloat16": [*PLAIN, *SHORT, "precision=bfloat16"],
}
# 20 epochs of ⌈440 / 50⌉ updates are 180.
EVERY = ["--checkpoint-updates", "4"]
ASIDE = ("seconds", "scoring_seconds", "images_per_second", "peak_memory", "finished")


class Process(subprocess.Popen):  # type: ignore[type-arg]
    """A training process whose stderr goes into the file `said`."""

    def __init__(self, *arguments: Any, said: Path, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.said = said

    def lines(self) -> list[str]:
        """What it has said so far."""
        return self.said.read_text(encoding="utf-8").splitlines()

    def wait_for(self, pattern: str) -> None:
        """Wait until it has said a line with `pattern`."""
        while not any(re.search(pattern, line) for line in self.lines()):
            assert self.poll() is None, (pattern, self.returncode, self.lines())
            time.sleep(0.005)

    def ended(self) -> tuple[int, list[str]]:
        """Wait for its end: exit code and lines, none of which may be a traceback's."""
        self.wait(timeout=1800)
        assert not any("Traceback" in line for line in self.lines()), self.lines()
        return self.returncode, self.lines()

    def finish(self) -> list[str]:
        """Wait for success."""
        code, lines = self.ended()
        assert code == 0, (code, lines)
        return lines

    def refused(self, code: int, why: str) -> None:
        """Wait for an end with an exit code and one line of error."""
        found, lines = self.ended()
        errors = [line for line in lines if line.startswith("error: ")]
        assert (found, len(errors)) == (code, 1), (found, lines)
        assert re.search(why, "\n".join(lines)), (why, lines)

    def destroy(self) -> bool:
        """SIGKILL; whether it was still there to be killed."""
        self.kill()
        return self.wait() == -signal.SIGKILL


def in_the_foreground() -> None:
    """What runs in the background may ignore these, and its children would too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Lab:
    """A folder with a small data set, and what becomes of runs that nothing interrupts."""

    def __init__(self, place: Path, *, references: int = 2) -> None:
        self.place, self.made, self.started = place, 0, 0
        self.references = references
        self.data = write_idx_set(place / "data", train=480)
        self.whole: dict[str, str] = {}
        self.whole_at: dict[str, Path] = {}

    def folder(self) -> Path:
        """A new run folder's name."""
        self.made += 1
        return self.place / "runs" / f"run{self.made}"

    def start(self, *arguments: object, **fault: object) -> "Process":
        """`fmnist ARGUMENTS` as a process, with a fault for `child.py`."""
        self.started += 1
        said = self.place / f"said{self.started}"
        with said.open("w", encoding="utf-8") as file:
            return Process(
                [sys.executable, HERE / "child.py", *map(str, arguments)],
                stdout=subprocess.DEVNULL,
                stderr=file,
                cwd=self.place,
                said=said,
                env=os.environ | {"FAULT": json.dumps(fault)},
                preexec_fn=in_the_foreground,
            )

    def new(self, kind: str, folder: Path, **fault: object) -> "Process":
        """Begin a run."""
        return self.start(*self.training(kind, folder), **(fault | {"folder": str(folder)}))

    def training(self, kind: str, folder: Path) -> tuple[object, ...]:
        """The words of the command that trains."""
        return "train", *KINDS[kind], "--data", self.data, "--run", folder, *EVERY

    def resume(self, folder: Path, **fault: object) -> "Process":
        """Go on with a run."""
        return self.start("train", "--resume", folder, *EVERY, **(fault | {"folder": str(folder)}))

    def finished(self, kind: str) -> Path:
        """A run that nothing interrupted."""
        self.expect(kind)
        return self.whole_at[kind]

    def expect(self, kind: str) -> str:
        """The result of uninterrupted runs, of which each of `references` gives the same."""
        if kind not in self.whole:
            folders = [self.folder() for _ in range(self.references)]
            for process in [self.new(kind, folder) for folder in folders]:  # at once: no quiet
                process.finish()
            results = [result(folder) for folder in folders]
            assert len(set(results)) == 1, f"{kind}: two uninterrupted runs differ"
            self.whole[kind], self.whole_at[kind] = results[0], folders[0]
        return self.whole[kind]

    def must_finish(self, kind: str, folder: Path, why: str) -> None:
        """Resume, and end as if nothing had been."""
        if not Run(folder).finished:
            self.resume(folder).finish()
        assert result(folder) == self.expect(kind), f"{kind}, {why}: another result"


def result(folder: Path) -> str:
    """Weights, val logits, scores and learning curve, times aside, the arrays as a hash."""
    run = Run(folder)
    arrays = run.load_weights()
    with np.load(folder / "val_logits.npz", allow_pickle=False) as logits:
        arrays |= {f"val {name}": logits[name] for name in logits}
    history = [{k: v for k, v in line.items() if k not in ASIDE} for line in run.metrics()]
    scores = {k: v for k, v in run.scores["val"].items() if k not in ASIDE}
    return hash_of(arrays) + json.dumps([history, scores], sort_keys=True)


def hash_of(arrays: dict[str, Any]) -> str:
    """SHA-256 over arrays with their names and types."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + str(arrays[name].dtype).encode() + arrays[name].tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path | None]:
    """A file system of a size, mounted; None where that is not allowed."""
    place.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(options, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


def fill(filler: Path) -> None:
    """Take what room is left on a disk."""
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
