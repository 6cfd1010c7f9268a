"""`fmnist predict` over files, folders, patterns, IDX and standard input, from words to lines."""

import io
import json
import os
import sys

import numpy as np
import pytest
from commands import call, refused
from idx import write_idx
from onnx_models import ABOUT, CLASSES, write_model
from PIL import Image

from fmnist.inference import inputs, pictures


def halves(bright):
    """28×28 in the data set's form, bright in the upper (0), lower (1) or left (2) half."""
    image = np.zeros((28, 28), np.uint8)
    image[[np.s_[:14], np.s_[14:], np.s_[:, :14]][bright]] = 250
    return image


def photo(bright):
    """A photo, 200×160, that `prepare` brings to `halves(bright)`: cut out already, so exactly."""
    pixels = np.zeros((200, 160, 4), np.uint8)
    frame = 255 - np.kron(np.maximum(halves(bright), 40), np.ones((4, 4), np.uint8))
    pixels[40:152, 20:132, :3] = frame[:, :, np.newaxis]
    pixels[40:152, 20:132, 3] = 255
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture
def photos(tmp_path):
    """A folder of three photos and things that are none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    photo(0).save(folder / "a.png")
    photo(1).save(folder / "b.tiff")
    photo(2).save(folder / "more" / "c.webp", lossless=True)
    (folder / "notes.txt").write_text("no image")
    (folder / "more" / "raw.dng").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    return folder


def predict(model, *arguments):
    """The JSON lines of the command, by file, the lines on stderr, and the exit code."""
    done = call("predict", "--model", model, "--json", *arguments)
    lines = [json.loads(line) for line in done.out.splitlines()]
    return lines, done.err.splitlines(), done.code


def best(lines):
    return [line["classes"][0]["class"] for line in lines]


def test_a_folder_is_walked_in_order(model, photos):
    lines, errors, code = predict(model, photos)
    said = f"note: {photos}: 2 other files are passed over: .dng (1), .txt (1)"
    assert (errors, code) == ([said], 0)
    assert [line["file"] for line in lines] == [
        str(photos / name) for name in ("a.png", "b.tiff", "more/c.webp")
    ]
    assert best(lines) == [*CLASSES]


def test_a_line_says_all_about_an_image(model, photos):
    (line,), _, _ = predict(model, photos / "a.png", "--top", 2)
    assert set(line) == {"file", "answer", "sure", "classes", "unlike", "energy"}
    first, second = line["classes"]
    assert first["class"] == "top"
    assert 1 > first["probability"] > second["probability"] > 0
    assert line["unlike"] == (line["energy"] < ABOUT["outlier"]["threshold"])
    assert len(predict(model, photos / "a.png", "--top", 99)[0][0]["classes"]) == 3


def test_patterns_that_no_shell_has_resolved(model, photos):
    assert best(predict(model, photos / "*.png")[0]) == ["top"]
    assert best(predict(model, photos / "**" / "*.webp")[0]) == ["left"]
    lines, errors, code = predict(model, photos / "*.gif", photos / "a.png")
    assert best(lines) == ["top"]
    assert code == 1
    assert "found none" in errors[0]


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_idx_files_are_in_the_data_sets_form(model, tmp_path, name):
    path = write_idx(tmp_path / name, np.stack([halves(i) for i in (1, 0, 2)]))
    lines, errors, code = predict(model, path)
    assert (best(lines), errors, code) == (["bottom", "top", "left"], [], 0)
    assert [line["file"] for line in lines] == [f"{path}[{i}]" for i in range(3)]
    wrong = write_idx(tmp_path / f"other.{name}", np.zeros((2, 9, 9), np.uint8))
    assert "expected images of 28 × 28 pixels" in predict(model, wrong)[1][0]
    labels = write_idx(tmp_path / f"labels.{name}", np.zeros(2, np.uint8))
    assert "expected 3 dimensions" in predict(model, labels)[1][0]


def stdin(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_standard_input(model, photos, tmp_path, monkeypatch):
    stdin(monkeypatch, (photos / "b.tiff").read_bytes())
    lines, _, code = predict(model, "-")
    assert (best(lines), lines[0]["file"], code) == (["bottom"], "-", 0)
    stdin(monkeypatch, write_idx(tmp_path / "some.gz", halves(2)[np.newaxis]).read_bytes())
    lines, _, _ = predict(model, "-")
    assert (best(lines), lines[0]["file"]) == (["left"], "-[0]")
    stdin(monkeypatch, b"\x1f\x8b nonsense")
    lines, errors, code = predict(model, "-")
    assert (lines, code) == ([], 1)
    assert errors[0].startswith("error: -: ")


def test_what_is_bad_is_refused_one_by_one_and_the_rest_goes_on(model, photos):
    whole = (photos / "b.tiff").read_bytes()
    bad = {
        "bad-0.png": b"",
        "bad-1.jpg": whole[: len(whole) // 2],
        "bad-2.png": b"<html>",
        "bad-3.png": (photos / "a.png").read_bytes()[:70],
        "bad-4.gif": b"GIF89a\xff\xff\xff\xff",
    }
    for name, content in bad.items():
        (photos / name).write_bytes(content)
    os.mkfifo(photos / "bad-5.png")
    (photos / "bad-6\n.png").write_bytes(b"no")
    (photos / "bad-7.png").symlink_to(photos / "nothing")
    lines, (note, *errors), code = predict(model, photos, photos / "none.jpg")
    assert note.startswith("note: ")
    assert best(lines) == [*CLASSES]
    assert code == 1
    assert len(errors) == 9
    assert [line.split("bad-")[1][0] for line in errors[1:]] == [*"01234567"]
    assert all(line.startswith("error: ") for line in errors)


def test_raw_takes_images_that_are_in_the_data_sets_form(model, photos, tmp_path):
    Image.fromarray(halves(1)).save(tmp_path / "raw.png")
    lines, errors, code = predict(model, "--raw", tmp_path / "raw.png", photos / "a.png")
    assert (best(lines), code) == (["bottom"], 1)
    assert "expected 28 × 28 pixels, received 160 × 200" in errors[0]


@pytest.mark.parametrize("bright", [0, 1, 2])
def test_the_border_of_a_small_image_tells_its_form(model, tmp_path, bright):
    """On black it is the data set's own; on white a small photo of a dark thing."""
    path = tmp_path / "tiny.png"
    seen = np.zeros((28, 28), np.uint8)
    seen[2:26, 2:26] = halves(bright)[2:26, 2:26]
    Image.fromarray(seen).save(path)
    lines, errors, code = predict(model, path)
    assert (best(lines), code) == ([CLASSES[bright]], 0)
    assert errors == [f"note: {path}: 28 × 28 on black: taken as it is"]
    Image.fromarray(255 - seen).save(path)
    assert predict(model, path)[1:] == ([], 0)


def test_a_model_of_another_size_takes_raw_images_alone(tmp_path, photos):
    small = write_model(tmp_path / "m.onnx", {**ABOUT, "shape": [9, 12, 1]}, shape=(9, 12))
    assert "--raw" in refused(call("predict", photos, "--model", small), 2)
    Image.new("L", (12, 9)).save(tmp_path / "raw.png")
    assert call("predict", tmp_path / "raw.png", "--raw", "--model", small).code == 0


def test_text_has_the_words_and_then_the_classes(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        Image.fromarray(halves(i)).save(tmp_path / f"{i}.png")
    done = call("predict", "0.png", "1.png", "2.png", "--raw", "--model", model)
    lines = done.out.splitlines()
    assert lines[::2] == [f"{i}.png: probably a {CLASSES[i]}" for i in range(3)]
    assert [line.split()[1] for line in lines[1::2]] == [*CLASSES]
    Image.fromarray(halves(0) // 25).save(tmp_path / "faint\n.png")
    done = call("predict", "faint\n.png", "--raw", "--model", model)
    assert done.out.startswith("faint?.png: looks like none of the classes\n")


def test_images_of_an_idx_file_stand_below_its_name(tmp_path, photos):
    """Answers of the bundled model, of two lines and at most 80 columns."""
    pixels = np.random.default_rng(0).integers(0, 256, (1030, 28, 28), np.uint8)  # in two pieces
    one = write_idx(tmp_path / "one-images-idx3-ubyte", pixels)
    other = write_idx(tmp_path / "other-images-idx3-ubyte", pixels[:3])
    done = call("predict", one, photos / "a.png", other)
    lines = done.out.splitlines()
    named = [i for i, line in enumerate(lines) if line.startswith(str(tmp_path))]
    assert (named[0], lines[0], lines[named[-1]]) == (0, f"{one}:", f"{other}:")
    assert lines[named[1]].startswith(f"{photos / 'a.png'}:")
    labels = [f"[{i}]:" for i in range(1030)]
    assert [line.split()[0] for line in lines[1 : named[1] : 2]] == labels
    assert [line.split()[0] for line in lines[named[-1] + 1 :: 2]] == labels[:3]
    assert max(len(line) for line in lines[1 : named[1]]) <= 80


def test_show_writes_what_the_model_saw_beside_the_photo(model, photos, tmp_path):
    out = tmp_path / "seen"
    assert call("predict", photos, photos / "a.png", "--model", model, "--show", out).code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "a.png.2.seen.png",
        "a.png.seen.png",
        "b.tiff.seen.png",
        "c.webp.seen.png",
    ]
    with Image.open(out / "a.png.seen.png") as image:
        picture = np.asarray(image)
    side = inputs.KEPT
    assert picture.shape == (side + pictures.STRIP, 2 * side, 3)
    right = picture[5:side:10, side + 5 :: 10, 0]
    assert right[1:13, 1:27].min() > 200 > 60 > right[15:27, 1:27].max()
    one = tmp_path / "one.png"
    assert call("predict", photos / "a.png", "--model", model, "--show", one).code == 0
    assert np.array_equal(np.asarray(Image.open(one)), picture)


def test_show_never_writes_over_a_photo(model, photos, tmp_path):
    path, before = photos / "a.png", (photos / "a.png").read_bytes()
    done = call("predict", path, "--model", model, "--show", path)
    assert "is the photo itself" in refused(done, 2)
    assert path.read_bytes() == before
    done = call("predict", photos, "--model", model, "--show", tmp_path / "one.png")
    assert (done.code, done.out) == (2, "")
    assert "for one image" in done.err


def test_a_bad_model_is_one_line_and_exit_5(photos, tmp_path):
    assert "found none" in refused(call("predict", photos, "--model", tmp_path), 5)
    (tmp_path / "bad.onnx").write_text("no")
    line = refused(call("predict", photos, "--model", tmp_path / "bad.onnx"), 5)
    assert "expected an ONNX model" in line
