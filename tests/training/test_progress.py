"""What training shows: lines in a file, a bar on a terminal, nothing when asked for nothing."""

import io
import os
import re
import struct
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist.recipes.shipped import recipe
from fmnist.runs.run import Run
from fmnist.training.progress import Progress, clock

ENV = {
    "data": {"n": 1000, "name": "some"},
    "parameters": 57_288_202,
    "precision": "bfloat16",
    "device": "cpu: some",
    "micro_batch": 64,
}
EPOCHS = [
    {
        "epoch": i,
        "update": 8 * i,
        "loss": 0.5 / i,
        "accuracy": 0.8 + i / 100,
        "val_accuracy": 0.9 + i / 100,
        "seconds": 10.0 * i,
        "scoring_seconds": 1.0 * i,
        "images_per_second": 1234.5,
    }
    for i in (1, 2, 3, 4)
]


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", recipe("reference"), ENV)


def show(progress, run, pause=0.0):
    """What the training loop tells a progress in four epochs of eight updates."""
    with progress:
        progress.start(run.path, recipe("reference", epochs=4, batch_size=128), ENV, 32, 0)
        for line in EPOCHS:
            for i in range(8):
                update = line["update"] - 7 + i
                progress.update(update, line["loss"], line["accuracy"], update * 1.25)
                time.sleep(pause)
            run.append_metrics(line)
            progress.epoch(line)
        progress.finish(run)


@given(st.floats(-10, 10**7))
def test_clock_can_be_read_back(seconds):
    shown = clock(seconds)
    assert re.fullmatch(r"(\d+:[0-5]\d|[0-5]?\d):[0-5]\d", shown)
    total = 0
    for part in shown.split(":"):
        total = total * 60 + int(part)
    assert abs(total - max(seconds, 0)) <= 0.5


def test_clock_of_known_times():
    assert [clock(s) for s in (0, 59.6, 245, 3599.6, 3723)] == [
        "0:00",
        "1:00",
        "4:05",
        "1:00:00",
        "1:02:03",
    ]


@pytest.mark.parametrize("mode", ["auto", "lines"])
def test_no_terminal_gets_a_plain_line_an_epoch(run, mode):
    stream = io.StringIO()
    show(Progress(mode, stream), run)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1 + len(EPOCHS) + 1
    assert "57,288,202 parameters" in lines[0]
    assert "batch 128 in micro-batches of 64" in lines[0]
    assert str(run.path) in lines[0]
    assert lines[2] == (
        "epoch 2/4  loss 0.2500  accuracy 82.00%  val 92.00%  1,234 img/s  0:20 spent  0:20 left"
    )
    assert lines[-1].startswith("trained in 0:40")
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_without_val_no_val_figure_is_made_up(run):
    stream = io.StringIO()
    with Progress("lines", stream) as progress:
        progress.start(run.path, recipe("reference", epochs=4), ENV | {"micro_batch": 256}, 32, 8)
        progress.epoch({k: v for k, v in EPOCHS[1].items() if k != "val_accuracy"})
    text = stream.getvalue()
    assert "val" not in text.splitlines()[-1]
    assert "micro-batches" not in text
    assert "going on after update 8 of 32" in text


def test_a_long_epoch_gives_a_line_a_minute(run):
    stream = io.StringIO()
    with Progress("lines", stream) as progress:
        progress.start(run.path, recipe("reference", epochs=2), ENV | {"micro_batch": 256}, 200, 0)
        for update in range(1, 41):
            progress.update(update, 0.5, 0.8, 4.0 * update)
    lines = [x for x in stream.getvalue().splitlines() if x.startswith("epoch 1/2  update")]
    assert [line.split()[3] for line in lines] == ["16/200", "31/200"]
    assert "loss 0.5000  accuracy 80.00%  32 img/s  12:16 left" in lines[0]


def test_none_shows_nothing(run):
    stream = io.StringIO()
    show(Progress("none", stream), run)
    assert stream.getvalue() == ""


def test_a_reader_that_went_away_stops_no_training(run):
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    show(Progress("lines", stream), run)
    assert len(run.metrics()) == len(EPOCHS)
    stream.close()  # nothing is left in it that would fail now


def test_a_terminal_gets_a_live_bar(run, monkeypatch):
    """On a real pseudo-terminal of 100 columns: it has every figure and is redrawn in place."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    for name in ("COLUMNS", "LINES", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    shown = bytearray()

    def read():
        try:
            while part := os.read(master, 4096):
                shown.extend(part)
        except OSError:  # Linux says so when the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(slave, "w") as stream:
        progress = Progress("auto", stream)
        assert progress.mode == "bar"
        show(progress, run, pause=0.03)
    reader.join(timeout=600)
    os.close(master)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert shown.count(b"\x1b[2K") > 2, "redrawn in place"
    assert "training reference (57,288,202 parameters)" in text
    last = text.split("epoch 4/4")[-1]
    for figure in ("loss 0.125", "accuracy 84.00%", "val 93.00%", "102 img/s", "0:00 left"):
        assert figure in last, (figure, last)
    assert "trained in 0:40" in text


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_terminal_that_goes_away_ends_no_training():
    """Its other end is closed between two updates, as by a session that was cut off."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as stream, Progress("bar", stream) as progress:
        chosen = recipe("quick", epochs=2)
        env = {"micro_batch": 128, "parameters": 1, "precision": "float32", "device": "cpu"}
        env["data"] = {"n": 128, "name": "small"}
        progress.start(Path("run"), chosen, env, 2, 0)
        os.close(ours)
        for update in (1, 2):
            progress.update(update, 0.5, 0.5, float(update))
            progress.say("a line")
        time.sleep(0.6)  # the bar draws itself in between
