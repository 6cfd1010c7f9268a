"""Starts real training processes, hurts them, and checks what docs/reliability.md promises.

    make chaos                                      # python tests/faults/chaos.py --kills 50
    KERAS_BACKEND=jax make chaos

A fault is a function that returns how often it was done; a promise that is not held is an
AssertionError. `test_faults.py` does a few of each in `make test`.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from idx import write_idx_set  # noqa: E402

from fmnist import files, runs  # noqa: E402

# Everything that is random or has a state, in two networks: batch statistics, crop, flip and cutout
# with Muon, and dropout and micro-batches with AdamW.
KINDS = {
    "compact": [
        "quick", "--set", "model.filters=4,8", "--set", "model.pool_after=1,2", "--set", "crop=2",
        "--set", "cutout=6", "--set", "epochs=20", "--set", "batch_size=50",
        "--set", "model.shortcuts=none", "--set", "precision=float32",
    ],
    "bfloat16": [
        "quick", "--set", "model.filters=4,4,8", "--set", "model.pool_after=1,3", "--set", "crop=1",
        "--set", "model.shortcuts=2", "--set", "epochs=20", "--set", "batch_size=50",
        "--set", "precision=bfloat16",
    ],
    "plain": [
        "seed", "--set", "model.filters=4,6", "--set", "model.dense_units=8", "--set", "epochs=20",
        "--set", "batch_size=50", "--set", "crop=2", "--set", "precision=float32",
        "--micro-batch", "20",
    ],
}  # fmt: skip
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
        self.wait(timeout=300)
        assert not any("Traceback" in line for line in self.lines()), self.lines()
        return self.returncode, self.lines()

    def finish(self) -> list[str]:
        """Wait for success."""
        code, lines = self.ended()
        assert code == 0, (code, lines)
        return lines

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

    def __init__(self, place: Path) -> None:
        self.place, self.made, self.started = place, 0, 0
        self.data = write_idx_set(place / "data", train=480)
        self.whole: dict[str, str] = {}

    def folder(self) -> Path:
        """A new run folder's name."""
        self.made += 1
        return self.place / "runs" / f"run{self.made}"

    def start(self, *arguments: object, **fault: object) -> "Process":
        """`fmnist train ARGUMENTS` as a process, with a fault for `child.py`."""
        self.started += 1
        said = self.place / f"said{self.started}"
        with said.open("w", encoding="utf-8") as file:
            return Process(
                [sys.executable, HERE / "child.py", "train", *map(str, arguments)],
                stdout=subprocess.DEVNULL, stderr=file, cwd=self.place, said=said,
                env=os.environ | {"FAULT": json.dumps(fault)},
                preexec_fn=in_the_foreground,
            )  # fmt: skip

    def new(self, kind: str, folder: Path, **fault: object) -> "Process":
        """Begin a run."""
        arguments = *KINDS[kind], "--data", self.data, "--run", folder, *EVERY
        return self.start(*arguments, **(fault | {"folder": str(folder)}))

    def resume(self, folder: Path, **fault: object) -> "Process":
        """Go on with a run."""
        return self.start("--resume", folder, *EVERY, **(fault | {"folder": str(folder)}))

    def expect(self, kind: str) -> str:
        """The result of an uninterrupted run, found twice to be the same."""
        if kind not in self.whole:
            folders = [self.folder(), self.folder()]
            for process in [self.new(kind, folder) for folder in folders]:  # at once: no quiet
                process.finish()
            results = [result(folder) for folder in folders]
            assert results[0] == results[1], f"{kind}: two uninterrupted runs differ"
            self.whole[kind] = results[0]
        return self.whole[kind]

    def must_finish(self, kind: str, folder: Path, why: str) -> None:
        """Resume, and end as if nothing had been."""
        if not runs.Run(folder).finished:
            self.resume(folder).finish()
        assert result(folder) == self.expect(kind), f"{kind}, {why}: another result"


def result(folder: Path) -> str:
    """Weights, val logits, scores and learning curve, times aside, the arrays as a hash."""
    run = runs.Run(folder)
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


# the faults


def one_of_each(lab: Lab, kind: str = "compact") -> int:
    """A run that is killed, killed before a file operation, terminated, and then let finish."""
    folder = lab.folder()
    process = lab.new(kind, folder)
    process.wait_for("epoch 2/")
    assert process.destroy()
    code, _ = lab.resume(folder, event=17).ended()
    assert code == -signal.SIGKILL
    process = lab.resume(folder)
    process.wait_for("epoch 8/")
    process.send_signal(signal.SIGTERM)
    code, lines = process.ended()
    assert code == 128 + signal.SIGTERM, (code, lines)
    lab.must_finish(kind, folder, "one of each")
    return 3


def killed_at_random(lab: Lab, times: int, kinds: tuple[str, ...] = tuple(KINDS)) -> int:
    """SIGKILL at a random time of training, again and again until the run has come to its end."""
    dice, done = random.Random(0), 0
    for kind in itertools.cycle(kinds):
        lab.expect(kind)
        folder = lab.folder()
        process = lab.new(kind, folder)
        process.wait_for("training")
        while True:
            time.sleep(dice.random() ** 2 * 2.5)
            done += process.destroy()
            if done >= times or runs.Run(folder).finished:
                break
            process = lab.resume(folder)
            process.wait_for("training")
        lab.must_finish(kind, folder, f"{done} kills")
        if done >= times:
            return done
    raise AssertionError


def killed_at_each_write(lab: Lab, limit: int | None = None, kind: str = "compact") -> int:
    """SIGKILL before each file operation of training, from its first to the last of its end."""
    counted, folder = lab.place / "count", lab.folder()
    lab.new(kind, folder, count=str(counted)).finish()
    total = int(counted.read_text())
    assert total > 40, total
    # The first checkpoints, one that drops an older one, and the end of training.
    chosen = [*range(1, 31), *range(total - 24, total + 1)]
    chosen = chosen if limit is None else random.Random(1).sample(chosen, limit)
    for event in chosen:
        folder = lab.folder()
        code, _ = lab.new(kind, folder, event=event).ended()
        assert code == -signal.SIGKILL, (event, code)
        lab.must_finish(kind, folder, f"killed before operation {event} of {total}")
        assert not list(folder.rglob("*.tmp")), "a half-written file is left"
    return len(chosen)


def stopped_by_signal(lab: Lab, kind: str = "plain") -> int:
    """SIGTERM, SIGINT, SIGHUP: a checkpoint, an exit code of its own, an equal result."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        folder = lab.folder()
        process = lab.new(kind, folder)
        process.wait_for("epoch 1/")
        process.send_signal(number)
        code, lines = process.ended()
        assert code == 128 + number, (number, code, lines)
        stopped = re.search(r"stopped after update (\d+) of", lines[-1])
        assert stopped, lines
        assert (folder / "checkpoint" / f"{int(stopped[1]):09}.safetensors").exists()
        lab.must_finish(kind, folder, f"signal {number}")
    return len(numbers)


def same_state(lab: Lab, kind: str = "compact") -> int:
    """Killed and resumed, the state at update 45 is the same to the last bit, optimiser and all."""
    states = []
    for kill in (False, True):
        folder = lab.folder()
        if kill:
            process = lab.new(kind, folder)
            process.wait_for("epoch 1/")
            process.destroy()
        process = lab.resume(folder, stop=45) if kill else lab.new(kind, folder, stop=45)
        code, lines = process.ended()
        assert code == 128 + signal.SIGTERM, (code, lines)
        arrays = files.load_arrays(folder / "checkpoint" / "000000045.safetensors")
        assert any("muon" in name for name in arrays), "no optimiser in the checkpoint"
        states.append(hash_of(arrays))
    assert states[0] == states[1], "another state"
    return 1


def damaged_checkpoint(lab: Lab, times: int, kind: str = "compact") -> int:
    """One bit flipped or the end cut off anywhere: found out, and the one before is taken."""
    dice, first = random.Random(2), lab.folder()
    process = lab.new(kind, first)
    process.wait_for("epoch 3/")
    process.destroy()
    for i in range(times):
        folder = lab.folder()
        shutil.copytree(first, folder)
        newest = sorted((folder / "checkpoint").glob("0*.safetensors"))[-1]
        target = newest if i % 3 else newest.with_suffix(".json")
        content = bytearray(target.read_bytes())
        place = dice.randrange(len(content))
        if i % 2:
            content[place] ^= 1 << dice.randrange(8)
        else:
            del content[place:]
        target.write_bytes(content)
        lines = lab.resume(folder).finish()
        if target == newest:  # in the manifest a bit of the space between words may flip
            assert any("checkpoint skipped" in line for line in lines), (place, lines)
        assert result(folder) == lab.expect(kind), f"damage at byte {place} of {target.name}"
    return times


def full_disk(lab: Lab, kind: str = "compact") -> int:
    """A file system that fills up while checkpoints and metrics are written, then has room."""
    place = lab.place / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        return 0  # not allowed to mount here; test_runs fills files to a limit instead
    try:
        folder, filler = place / "run", place / "filler"
        process = lab.new(kind, folder)
        process.wait_for("epoch 1/")
        with filler.open("wb", buffering=0) as file:
            while process.poll() is None:  # what it frees is taken too
                with contextlib.suppress(OSError):
                    file.write(bytes(1024))
        code, lines = process.ended()
        errors = [line for line in lines if line.startswith("error: ")]
        assert (code, len(errors)) == (5, 1), (code, lines)
        assert "could not be" in errors[0], errors
        assert list((folder / "checkpoint").glob("*.json")), "the checkpoint before is gone"
        filler.unlink()
        lab.must_finish(kind, folder, "full disk")
    finally:
        subprocess.run(["umount", str(place)], check=True)
    return 1


def vanished_or_read_only(lab: Lab, kind: str = "compact") -> int:
    """A run folder that is taken away or closed to writing: one line, nothing made anew."""
    folder = lab.folder()
    process = lab.new(kind, folder)
    process.wait_for("epoch 1/")
    away = folder.with_name("away")
    folder.rename(away)
    code, lines = process.ended()
    assert code == 5, (code, lines)
    assert sum(line.startswith("error: ") for line in lines) == 1, lines
    assert not folder.exists()
    away.rename(folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for path in (folder, folder / "checkpoint"):  # to root they are writable all the same
        path.chmod(0o555)
    if not os.access(folder, os.W_OK):
        code, lines = lab.resume(folder).ended()
        assert code == 5, (code, lines)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    for path in (folder, folder / "checkpoint"):
        path.chmod(0o755)
    lab.must_finish(kind, folder, "vanished folder")
    return 2


def two_at_once(lab: Lab, kind: str = "compact") -> int:
    """Two processes that train one run: the second is refused, the first not touched."""
    folder = lab.folder()
    process = lab.new(kind, folder)
    process.wait_for("training")
    process.send_signal(signal.SIGSTOP)
    code, lines = lab.resume(folder).ended()
    process.send_signal(signal.SIGCONT)
    assert code == 5, (code, lines)
    assert "another process is training this run" in lines[-1]
    process.finish()
    assert result(folder) == lab.expect(kind)
    return 1


def clock_backwards(lab: Lab, kind: str = "compact") -> int:
    """A wall clock that jumps back an hour whenever it is read."""
    folder = lab.folder()
    lab.new(kind, folder, clock=True).finish()
    assert result(folder) == lab.expect(kind)
    assert all(line["seconds"] > 0 for line in runs.Run(folder).metrics())
    return 1


def no_number(lab: Lab, kind: str = "compact") -> int:
    """A loss of NaN or infinity at update 11: told, and the checkpoint of update 8 is kept."""
    for value in ("nan", "inf", "-inf"):
        folder = lab.folder()
        code, lines = lab.new(kind, folder, update=11, value=value).ended()
        assert code == 4, (code, lines)
        assert "update 11: expected a finite loss" in lines[-1], lines
        assert sorted(p.stem for p in (folder / "checkpoint").glob("*.json"))[-1] == "000000008"
        lab.must_finish(kind, folder, value)
    return 3


def out_of_memory(lab: Lab) -> int:
    """Memory short at update 11: on at half the micro-batch, and refusals where that is no way."""
    fixed, folder = lab.folder(), lab.folder()
    # Two epochs: over more, training amplifies what rounding makes of another division.
    short = [*KINDS["plain"][:-1], "10", "--set", "epochs=2", "--data", lab.data, *EVERY]
    lab.start(*short, "--run", fixed).finish()
    short[short.index("10")] = "20"
    lines = lab.start(*short, "--run", folder, update=11, over=10).finish()
    assert any("going on after update 8" in line for line in lines), lines
    assert runs.Run(folder).env["micro_batch"] == 10
    for name, array in runs.Run(fixed).load_weights().items():
        np.testing.assert_allclose(runs.Run(folder).load_weights()[name], array, atol=3e-3)

    code, lines = lab.new("plain", lab.folder(), update=11, over=0).ended()
    assert code == 6, (code, lines)
    assert "memory is short for 1 images at once" in lines[-1], lines

    folder = lab.folder()
    code, lines = lab.new("compact", folder, update=11, over=10).ended()
    assert code == 6, (code, lines)
    assert f"--resume {folder}" in lines[-1], lines
    assert "--set micro_batch=25" in lines[-1], lines
    lab.must_finish("compact", folder, "memory")
    return 3


def appended_at_once(lab: Lab, processes: int) -> int:
    """So many processes that append to one ledger: every line whole, none lost."""
    path, each = lab.place / "ledger.jsonl", 20
    code = (
        "import sys; from pathlib import Path; from fmnist.files import append_line\n"
        f"for i in range({each}): append_line(Path(sys.argv[1]), dict(who=sys.argv[2], i=i))"
    )
    working = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(processes)
    ]
    assert not any(process.wait(timeout=300) for process in working)
    text = path.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert len({(line["who"], line["i"]) for line in lines}) == len(lines) == processes * each
    return processes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    asked = parser.parse_args()
    faults = {
        "SIGKILL at a random time of training": lambda lab: killed_at_random(lab, asked.kills),
        "SIGKILL before a file operation": killed_at_each_write,
        "SIGTERM, SIGINT, SIGHUP": stopped_by_signal,
        "SIGKILL, then the same checkpoints": same_state,
        "checkpoint cut short or a bit flipped": lambda lab: damaged_checkpoint(lab, 30),
        "disk full, then room": full_disk,
        "run folder vanished, read-only": vanished_or_read_only,
        "two processes resume a run": two_at_once,
        "clock backwards": clock_backwards,
        "loss of NaN, infinity": no_number,
        "memory short for a micro-batch": out_of_memory,
        "processes append to the ledger": lambda lab: appended_at_once(lab, 50),
    }
    failed = False
    print(f"{'fault':<40}{'times':>6}{'seconds':>9}  promise")
    with tempfile.TemporaryDirectory() as place:
        lab = Lab(Path(place))
        for name, fault in faults.items():
            begin, held, count = time.perf_counter(), "held", 0
            try:
                count = fault(lab)
                held = held if count else "not possible here"
            except AssertionError as error:
                failed, held = True, f"BROKEN: {error}"
            print(f"{name:<40}{count:>6}{time.perf_counter() - begin:>9.0f}  {held}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
