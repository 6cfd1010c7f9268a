"""Starts real training processes, hurts them, and checks what docs/reliability.md promises.

    make chaos                                      # python tests/faults/chaos.py --kills 50
    KERAS_BACKEND=jax make chaos

A fault is a function that returns how often it was done; a promise that is not held is an
AssertionError. `test_faults.py` does one of each kind in `make test`.
"""

import argparse
import contextlib
import itertools
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from lab import EVERY, KINDS, Lab, Process, fill, hash_of, result, small_disk  # finds mirrors
from mirrors import Mirrors, pins_of, serving
from server import Server, status

from fmnist import files
from fmnist.runs.run import Run


def killed_and_terminated(lab: Lab, kind: str = "compact") -> int:
    """A run that is killed before a file operation, terminated at an update, then let finish.

    The process does both to itself, at the same point each time: nothing here has to be quick.
    """
    folder = lab.folder()
    code, lines = lab.new(kind, folder, event=25).ended()
    assert code == -signal.SIGKILL, (code, lines)
    code, lines = lab.resume(folder, stop=72).ended()
    assert code == 128 + signal.SIGTERM, (code, lines)
    assert "stopped after update 72 of" in lines[-1], lines
    lab.must_finish(kind, folder, "killed and terminated")
    return 2


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
            if done >= times or Run(folder).finished:
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


def killed_in_validation(lab: Lab, kind: str = "plain") -> int:
    """SIGKILL after the n-th batch of val, within an epoch's scoring and within the last one's."""
    # 40 images in micro-batches of 20: two batches an epoch, and both ways at the end.
    chosen = (1, 2, 11, 40, 41, 42, 43, 44)
    for batch in chosen:
        folder = lab.folder()
        code, lines = lab.new(kind, folder, batch=batch).ended()
        assert code == -signal.SIGKILL, (batch, code, lines)
        assert not Run(folder).finished
        lab.must_finish(kind, folder, f"killed at batch {batch} of val")
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
    """A disk that fills up while checkpoints and metrics are written, then has room."""
    with small_disk(lab.place / "small", "400k") as place:
        if place is None:
            return 0  # test_runs fills files to a limit instead
        folder, filler = place / "run", place / "filler"
        process = lab.new(kind, folder)
        process.wait_for("epoch 1/")
        while process.poll() is None:  # what it frees is taken too
            fill(filler)
        process.refused(5, "could not be")
        assert list((folder / "checkpoint").glob("*.json")), "the checkpoint before is gone"
        filler.unlink()
        lab.must_finish(kind, folder, "full disk")
    return 1


def full_ledger(lab: Lab, kind: str = "compact") -> int:
    """No room for the ledger's line when test is scored: no score, no line; then room."""
    with small_disk(lab.place / "small", "400k") as place:
        if place is None:
            return 0
        shutil.copytree(lab.finished(kind), place / "run")
        ledger, filler = place / "ledger.jsonl", place / "filler"
        evaluate = "evaluate", place / "run", "--split", "test"
        lab.start(*evaluate).finish()
        before = ledger.read_bytes()
        fill(filler)
        ledger.write_bytes(before + before * ((4096 - len(before)) // len(before)))  # its block
        kept = ledger.read_bytes()
        lab.start(*evaluate).refused(5, r"ledger\.jsonl: could not be written")
        assert ledger.read_bytes() == kept, "the ledger has changed"
        filler.unlink()
        lab.start(*evaluate).finish()
        assert len(files.read_lines(ledger)) == kept.count(b"\n") + 1
    return 1


def vanished(lab: Lab, kind: str = "compact") -> int:
    """A run folder that is taken away: one line, nothing made anew."""
    folder = lab.folder()
    process = lab.new(kind, folder)
    process.wait_for("epoch 1/")
    away = folder.with_name("away")
    folder.rename(away)
    process.refused(5, "could not be")
    assert not folder.exists()
    away.rename(folder)
    lab.must_finish(kind, folder, "vanished folder")
    return 1


def replaced(lab: Lab, kind: str = "compact") -> int:
    """A run folder that is moved away, with another run in its place: that one is not touched."""
    folder, other = lab.folder(), lab.folder()
    process = lab.new(kind, other)
    process.wait_for("epoch 1/")
    process.destroy()
    before = {p.relative_to(other): p.read_bytes() for p in other.rglob("*") if p.is_file()}
    process = lab.new(kind, folder)
    process.wait_for("epoch 1/")
    process.send_signal(signal.SIGSTOP)  # so that it never sees the place empty
    folder.rename(folder.with_name("mine"))
    other.rename(folder)
    process.send_signal(signal.SIGCONT)
    process.refused(5, "the run was moved away")
    folder.rename(other)
    assert before == {p.relative_to(other): p.read_bytes() for p in other.rglob("*") if p.is_file()}
    folder.with_name("mine").rename(folder)
    for each in (folder, other):
        lab.must_finish(kind, each, "replaced folder")
    return 1


def edited(lab: Lab, kind: str = "compact") -> int:
    """A recipe or environment that was edited after a checkpoint: refused, until it is back."""
    folder = lab.folder()
    process = lab.new(kind, folder)
    process.wait_for("epoch 2/")
    process.destroy()
    changes = [("recipe.json", {key: value}) for key, value in (("seed", 9), ("crop", 0))]
    changes += [("env.json", {"mean": 0.4}), ("env.json", {"precision": "bfloat16"})]
    for name, change in changes:
        kept = (folder / name).read_text(encoding="utf-8")
        files.write_json(folder / name, json.loads(kept) | change)
        lab.resume(folder).refused(5, f"expected the {name} that its checkpoint came from")
        (folder / name).write_text(kept, encoding="utf-8")
    lab.must_finish(kind, folder, "edited and put back")
    return len(changes)


def read_only(lab: Lab, kind: str = "compact") -> int:
    """A disk that becomes read-only, before a resume and under one: one line, nothing changed."""
    with small_disk(lab.place / "small", "8m") as place:
        if place is None:
            return 0

        def remount(how: str) -> None:
            subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)

        folder = place / "run"
        process = lab.new(kind, folder)
        process.wait_for("epoch 1/")
        process.destroy()
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        remount("ro")
        lab.resume(folder).refused(5, "Read-only file system")
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
        remount("rw")
        lab.must_finish(kind, folder, "read-only disk")
    return 1


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
    assert all(line["seconds"] > 0 for line in Run(folder).metrics())
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
    short = ["train", *KINDS["plain"], "--set", "epochs=2", "--data", lab.data, *EVERY]
    lab.start(*short, "--micro-batch", "10", "--run", fixed).finish()
    lines = lab.start(*short, "--run", folder, update=11, over=10).finish()
    assert any("going on after update 8" in line for line in lines), lines
    assert Run(folder).env["micro_batch"] == 10
    for name, array in Run(fixed).load_weights().items():
        np.testing.assert_allclose(Run(folder).load_weights()[name], array, atol=3e-3)

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


BAD = {
    "absent": "HTTP status 404",
    "page": "a web page",
    "short": "broke off|connection lost",
    "shorter": "cut short",
    "reset": "broke off|connection lost",
    "endless": "sends more than",
    "drip": "too slow",
    "silent": "too slow",
    "loop": "redirects without end",
    "changed": "unknown content",
    "other": "expected at most",
}


class Downloads:
    """`fmnist data` with mirrors on loopback, and what may be in its cache."""

    def __init__(self, lab: Lab, server: Mirrors, cache: Path) -> None:
        self.lab, self.server, self.cache = lab, server, cache
        self.right = {p.name: p.read_bytes() for p in server.folder.iterdir()}

    def start(self, *mirrors: str) -> Process:
        """The command, with these mirrors in turn."""
        where = {"cache": str(self.cache), "mirrors": [self.server.at(name) for name in mirrors]}
        return self.lab.start("data", data=where | {"pins": pins_of(self.server.folder)})

    def check(self, whole: bool) -> None:
        """Every file in the cache is right or plainly no data; with `whole` all are there."""
        found = {p.name: p.read_bytes() for p in self.cache.glob("*") if p.name[0] != "."}
        assert found.items() <= self.right.items(), "a partial or wrong file lies in the cache"
        assert not whole or found == self.right, sorted(found)


def bad_downloads(lab: Lab) -> int:
    """A bad mirror alone is refused and leaves no file; before a good one it does no harm."""
    with serving(lab.data) as server:
        for name, why in BAD.items():
            downloads = Downloads(lab, server, lab.place / f"cache of {name}")
            downloads.start(name).refused(3, why)
            assert not list(downloads.cache.glob("*")), f"{name}: something is left"
            downloads.start(name, "good").finish()
            downloads.check(whole=True)
    return 2 * len(BAD)


def killed_downloads(lab: Lab, times: int) -> int:
    """SIGKILL at a random time of a download: only whole files are there, and the next fetches."""
    dice, done = random.Random(3), 0
    with serving(lab.data) as server:
        for i in itertools.count():
            downloads = Downloads(lab, server, lab.place / f"killed cache {i}")
            server.requests.clear()
            process = downloads.start("slow")
            while not server.requests:
                assert process.poll() is None, process.lines()
                time.sleep(0.005)
            time.sleep(dice.random() * 4)  # it takes about as many seconds
            done += process.destroy()
            downloads.check(whole=False)
            downloads.start("good").finish()
            downloads.check(whole=True)
            if done >= times:
                return done
    raise AssertionError


def full_download(lab: Lab) -> int:
    """A disk that is too small for a download: refused, nothing is left; then there is room."""
    with small_disk(lab.place / "small", "200k") as place, serving(lab.data) as server:
        if place is None:
            return 0
        downloads = Downloads(lab, server, place / "cache")
        fill(place / "filler")
        with (place / "filler").open("rb+") as file:
            file.truncate((place / "filler").stat().st_size - 60 * 1024)
        downloads.start("good").refused(3, "cannot be written .No space left on device")
        downloads.check(whole=False)
        assert not list(downloads.cache.glob(".*")), "half a file is left"
        (place / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=8m", str(place)], check=True)
        downloads.start("good").finish()
        downloads.check(whole=True)
    return 1


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


def full_log(lab: Lab, kind: str = "compact") -> int:
    """Training whose messages go to a full disk."""
    if not Path("/dev/full").exists():
        return 0
    folder = lab.folder()
    words = [sys.executable, "-m", "fmnist", *map(str, lab.training(kind, folder))]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            words, stdout=subprocess.DEVNULL, stderr=full, cwd=lab.place, check=False
        )
    assert done.returncode == 0, done
    lab.must_finish(kind, folder, "its log was full")
    return 1


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def answers_soon(server: Server, seconds: float) -> None:
    """Wait until the server answers one more client."""
    end = time.monotonic() + seconds
    while status(server.send(HEALTH)) != 200:
        assert time.monotonic() < end, f"no answer within {seconds} s"


def silent_readers(lab: Lab) -> int:
    """Clients that ask for a megabyte in every place, and read nothing of it."""
    with Server(None) as server, contextlib.ExitStack() as stack:
        for _ in range(512):
            client = stack.enter_context(server.connect())
            client.sendall(b"GET /model/model.onnx HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answers_soon(server, 60)
    return 512


def few_files(lab: Lab) -> int:
    """More clients than the server may open files for."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
    with Server(None, options=["--threads", "1"], first=limit) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(120):
                stack.enter_context(server.connect())
            answers_soon(server, 60)
        assert server.stop() == (128 + signal.SIGTERM, "stopped\n")
    return 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    asked = parser.parse_args()
    faults = {
        "SIGKILL at a random time of training": lambda lab: killed_at_random(lab, asked.kills),
        "SIGKILL before a file operation": killed_at_each_write,
        "SIGKILL, SIGKILL, SIGTERM in one run": one_of_each,
        "SIGKILL while val is scored": killed_in_validation,
        "SIGTERM, SIGINT, SIGHUP": stopped_by_signal,
        "SIGKILL, then the same checkpoints": same_state,
        "checkpoint cut short or a bit flipped": lambda lab: damaged_checkpoint(lab, 30),
        "disk full for checkpoint or metrics": full_disk,
        "disk full for the ledger": full_ledger,
        "disk full for a download": full_download,
        "run folder vanished": vanished,
        "another run in the folder's place": replaced,
        "recipe or environment edited": edited,
        "log on a full disk": full_log,
        "clients that read nothing of an answer": silent_readers,
        "more clients than files": few_files,
        "run folder on a read-only disk": read_only,
        "two processes resume a run": two_at_once,
        "clock backwards": clock_backwards,
        "loss of NaN, infinity": no_number,
        "memory short for a micro-batch": out_of_memory,
        "bad mirror, alone and before a good one": bad_downloads,
        "SIGKILL while downloading": lambda lab: killed_downloads(lab, 20),
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
