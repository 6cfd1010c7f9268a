"""Each command and each path that it takes: names that no file has, files of others, streams."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import call, refused
from idx import write_idx_set
from PIL import Image
from samples import ENV, made_run

from fmnist import files
from fmnist.data.load import load_data
from fmnist.runs.commands import command

READ = [  # PATH is the path in question, RUN a run, DATA its data
    "train PATH.json",
    "train --data PATH",
    "train --resume PATH",
    "train --teacher PATH --data DATA",
    "sweep --over epochs=1/2 --data PATH",
    "sweep --resume PATH",
    "ensemble RUN PATH",
    "ensemble RUN RUN --data PATH",
    "evaluate PATH",
    "evaluate RUN --data PATH",
    "verify RUN PATH",
    "verify RUN --data PATH",
    "compare RUN PATH",
    "compare RUN,PATH RUN",
    "report PATH",
    "report RUN --data PATH",
    "predict PATH",
    "predict PHOTO --model PATH",
    "serve --model PATH",
    "export PATH",
    "export RUN --data PATH",
    "export RUN --format onnx --calibrate PATH --data DATA",
    "data --data PATH",
    "audit --resume PATH",
    "audit --data PATH",
    "recipes PATH.json",
    "summary PATH.json",
    "runs --in PATH",
    "runs show PATH",
    "runs delete RUN PATH --yes",
]
MADE = [
    "train --run PATH --data DATA",
    "sweep --over epochs=1/2 --out PATH --data DATA",
    "ensemble RUN RUN --run PATH",
    "report RUN --data DATA --out PATH",
    "predict PHOTO --show PATH",
    "export RUN --data DATA --out PATH",
    "data --data DATA --show PATH/a.png",
    "audit --out PATH --data DATA",
]
LONG = "x" * 300


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a photo, data, and a run on that data."""
    place = tmp_path_factory.mktemp("paths")
    data = load_data(write_idx_set(place / "data", train=60, height=12, width=12, classes=3))
    Image.fromarray(np.full((90, 80), 200, np.uint8)).save(place / "photo.png")
    about = {"name": "data", "folder": str(place / "data"), "hash": data.hash, "n": 56}
    run = made_run(place / "run", ENV | {"data": about | {"val_index_hash": data.val_index_hash}})
    run.save_logits("val", np.eye(3, dtype=np.float32)[data.val.labels], data.val.labels)
    return place


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to run in, and no data but what a test names."""
    monkeypatch.delenv("FMNIST_DATA", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def words_of(line, made, path):
    """A command's words, with the path in them."""
    known = {"RUN": made / "run", "DATA": made / "data", "PHOTO": made / "photo.png"}
    words = []
    for word in line.split():
        for name, value in (known | {"PATH": path}).items():
            word = word.replace(name, str(value))
        words.append(word)
    return words


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", ["", LONG, "~nosuch/x"])
def test_what_is_no_path_is_one_line_for_every_command(made, path):
    before = contents(made)
    for line in READ if path.startswith("~") else READ + MADE:
        if not path and f"{line} ".find("PATH ") < 0:
            continue  # where it is a part of a name
        done = call(*words_of(line, made, path))
        assert done.code in (1, 2, 3, 5), (line, done)
        assert done.err.startswith("error: "), (line, done)
        assert done.err.count("\n") == 1, (line, done)
        assert not done.out, (line, done)
    assert contents(made) == before
    assert not any(Path().iterdir()), "something was written"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_closed_folder_is_one_line_for_every_command(made, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    for path in (closed, closed / "x"):
        for line in READ + MADE:
            done = call(*words_of(line, made, path))
            assert done.code in (1, 2, 3, 5), (line, done)
            assert "error: " in done.err.lower(), (line, done)  # the parser's, or ours


# what is there already


def pipe(path):
    os.mkfifo(path)


def device(path):
    try:
        os.mknod(path, 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("making a device is for root")


def dangling(path):
    path.symlink_to(path.with_name("absent"))


def link(path):
    path.with_name("target").write_text("mine")
    path.symlink_to(path.with_name("target"))


def foreign(path):
    path.write_text("mine")


def described(path):
    """What a path is, and what a link or file holds, without opening a pipe or device."""
    return path.lstat()[:2], path.read_text() if path.is_file() else ""


@pytest.mark.parametrize("make", [foreign, link, dangling, pipe, device, Path.mkdir])
def test_only_what_fmnist_wrote_is_replaced(made, tmp_path, make):
    """A recipe, a link, a pipe or a device that stands where a file is to go stays, by its name."""
    for number, (line, name) in enumerate(
        (
            ("report RUN --data DATA --out PATH", "page.html"),
            ("data --data DATA --show PATH", "samples.png"),
            ("predict PHOTO --show PATH", "seen.png"),
            ("predict PHOTO --show PARENT", "photo.png.seen.png"),
            ("export RUN --data DATA --format onnx --replace --out PARENT", "card.json"),
            ("export RUN --data DATA --format onnx --replace --out PARENT", "model.onnx"),
        )
    ):
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        make(path)
        before = described(path)
        done = call(*words_of(line.replace("PARENT", str(path.parent)), made, path))
        assert done.code == 2, (line, done)
        assert f"error: {path}: expected" in done.err, (line, done)
        assert described(path) == before


def test_a_picture_of_before_is_replaced(made, tmp_path):
    for _ in range(2):
        for show in (tmp_path / "seen", tmp_path / "seen.png"):
            done = call("predict", made / "photo.png", "--show", show)
            assert done.code == 0, done
    (tmp_path / "file").touch()
    line = refused(call("predict", made / "photo.png", "--show", tmp_path / "file"), 2)
    assert "expected a folder or a .png file" in line


# names


def test_a_name_like_an_option_can_be_typed_as_it_is_told(made):
    assert command("evaluate", Path("-x"), "--split", "test").endswith(" ./-x --split test")
    Path("-x").symlink_to(made / "run")
    (made / "run" / "weights.safetensors").rename(made / "kept")
    told = refused(call("evaluate", "./-x"), 5).rpartition("finish it by ")[2].split()
    assert told[-3:] == ["train", "--resume", "./-x"]
    (made / "kept").rename(made / "run" / "weights.safetensors")
    assert "is finished" in refused(call(*told[-3:]), 5)


def test_a_strangers_names_command_no_terminal(made, tmp_path):
    """That of a folder, and that of a recipe of another version."""
    run = Path(shutil.copytree(made / "run", tmp_path / "\x1b[2Jrun"))
    for words in (("compare", run, made / "run"), ("runs", "show", run)):
        done = call(*words)
        assert done.code == 0, done
        assert "\x1b" not in done.out
    changed = files.read_json(run / "recipe.json") | {"name": "\x1b[2J", "no field": 1}
    (run / "recipe.json").write_text(json.dumps(changed))
    for words in (("runs", "show", run), ("runs", "--in", tmp_path)):
        done = call(*words)
        assert done.code == 0
        assert "\x1b" not in done.out


def test_null_in_the_environment_is_nothing(made, tmp_path):
    run = made_run(tmp_path / "run", ENV | {"teachers": None, "members": None, "processes": None})
    shown = call("runs", "show", run.path)
    assert (shown.code, shown.err) == (0, "")


# streams


@pytest.mark.parametrize(
    ("streams", "words", "code", "said"),
    [
        (">/dev/full", "recipes quick", 1, "stdout: could not be written (No space left"),
        ("-u >/dev/full", "recipes quick", 1, "stdout: could not be written (No space left"),
        ("-u >/dev/full", "runs show RUN", 1, "stdout: could not be written (No space left"),
        (">/dev/full", "runs show absent", 5, "absent: expected a run folder"),
        (">&-", "recipes quick", 0, ""),
        ("<&-", "runs delete RUN", 2, "expected --yes"),
        ("<&- >&-", "predict -", 1, "-: expected an image, received an empty file"),
    ],
)
def test_a_full_or_closed_stream_is_no_traceback(made, streams, words, code, said):
    """Where what was printed is written at the end, and where a print fails, as with -u."""
    done = subprocess.run(
        ["sh", "-c", f'{sys.executable} {streams} -m fmnist "$@"', "", *words_of(words, made, "")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done
    assert said in done.stderr
    assert done.stderr.count("\n") == done.stderr.count("error: ") == (code > 0), done


def test_too_little_memory_is_one_line(tmp_path):
    """600 MB of images, which take no room on the disk, where a process may have 400 MB."""
    data = write_idx_set(tmp_path / "data", train=150_000, height=1, width=1, compress=False)
    images = data / "train-images-idx3-ubyte"
    images.write_bytes(bytes([0, 0, 8, 3]) + np.array([150_000, 64, 64], ">u4").tobytes())
    os.truncate(images, 16 + 150_000 * 64 * 64)
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'ulimit -v 400000; {sys.executable} -m fmnist "$@"',
            "",
            "data",
            "--data",
            data,
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout) == (6, ""), done
    assert done.stderr.startswith("error: memory is too small"), done
    assert done.stderr.count("\n") == 1, done
