"""Audits: a small set with known wrong labels and copies, interruption, the page, refusals."""

import json
import re
import shutil
import signal
from html.parser import HTMLParser

import numpy as np
import pytest
from idx import make_images, write_idx, write_idx_set

from fmnist.audits.audit import SCHEMA, audit, fold_data, fold_numbers, resume
from fmnist.audits.page import render
from fmnist.audits.rows import STRIP, audit_labels
from fmnist.cli.audit import show_audit
from fmnist.data.load import load_data
from fmnist.errors import RunError, UsageError
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import recipe
from fmnist.runs.run import Run
from fmnist.scoring.evaluate import evaluate
from fmnist.signals import Interrupted
from fmnist.training.progress import Progress

QUIET = Progress("none")
TINY = recipe(
    "quick",
    epochs=10,
    batch_size=32,
    precision="float32",
    learning_rate=0.2,
    label_smoothing=0,
    flip=False,
    views="one",
    **{"model.filters": "8,16", "model.pool_after": "1,2", "model.stem": "none"},
)
FLIPPED = {7: 3, 40: 1, 101: 1, 150: 2, 222: 3}  # image: how many classes its label is moved on
CLASSES = 4


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A set of 240 images and 60 of test, some labels moved on and some images copied."""
    folder = write_idx_set(tmp_path_factory.mktemp("data") / "<b>blocks", height=12, width=12)
    images, labels = make_images(240, 12, 12, CLASSES, 1)
    test_images, test_labels = make_images(60, 12, 12, CLASSES, 2)
    for image, by in FLIPPED.items():
        labels[image] = (labels[image] + by) % CLASSES
    images[11] = images[10]  # exact, other labels
    labels[10], labels[11] = 0, 1
    images[21] = np.clip(images[20].astype(int) + 1, 0, 255)  # brighter by one
    labels[21] = labels[20]
    test_images[5] = images[30]
    for name, values in {
        "train-images-idx3-ubyte.gz": images,
        "train-labels-idx1-ubyte.gz": labels,
        "t10k-images-idx3-ubyte.gz": test_images,
        "t10k-labels-idx1-ubyte.gz": test_labels,
    }.items():
        write_idx(folder / name, values)
    (folder / "classes.txt").write_text("<script>alert(1)</script>\nb&b\nc\nd\n")
    return load_data(folder)


@pytest.fixture(scope="module")
def audited(spoilt, tmp_path_factory):
    """The folder of an audit of that set, and what it returned."""
    folder = tmp_path_factory.mktemp("audits") / "first"
    return folder, audit(TINY, spoilt, folder, folds=3, progress=QUIET)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_flipped_labels_are_found_with_their_classes(audited, spoilt):
    rows = lines(audited[0] / "labels.jsonl")
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    confidence = [row["self_confidence"] for row in rows]
    assert confidence == sorted(confidence)
    planted = set(FLIPPED) | {10, 11}
    assert set(FLIPPED) <= {row["image"] for row in rows} <= planted
    _, labels = make_images(240, 12, 12, CLASSES, 1)
    everything = spoilt.fitting("all").labels
    for row in rows:
        assert row["given"] == spoilt.classes[everything[row["image"]]]
        if row["image"] in FLIPPED:
            assert row["suggested"] == spoilt.classes[labels[row["image"]]]
        is_val = row["image"] in spoilt.val_indices
        assert row["split"] == ("val" if is_val else "train")
    found = audited[1]["labels"]
    assert found["suspicious"] == len(rows) == sum(p["suspicious"] for p in found["pairs"])
    assert 0.5 * len(rows) <= found["estimated_wrong"] <= 2 * len(rows)


def test_the_copies_are_found_and_other_labels_come_first(audited, spoilt):
    rows = lines(audited[0] / "duplicates.jsonl")
    assert [row["images"] for row in rows] == [[10, 11], [30, 5], [20, 21]]
    assert [row["labels_differ"] for row in rows] == [True, rows[1]["labels_differ"], False]
    assert [row["exact"] for row in rows] == [True, True, False]
    assert rows[1]["splits"][1] == "test"
    assert rows[1]["across_splits"]
    for row in rows:
        for split, image in zip(row["splits"], row["images"], strict=True):
            assert split == "test" or (split == "val") == (image in spoilt.val_indices)
    found = audited[1]["duplicates"]
    assert (found["pairs"], found["exact"], found["clusters"], found["images"]) == (3, 2, 3, 6)
    assert sum(counts["pairs"] for counts in found["by_splits"].values()) == 3


def test_audit_json_is_what_was_returned(audited, spoilt):
    folder, found = audited
    kept = json.loads((folder / "audit.json").read_text())
    assert found == {"folder": str(folder)} | kept
    assert kept["schema"] == SCHEMA
    assert Recipe.from_json(kept["recipe"]) == TINY
    assert kept["data"]["hash"] == spoilt.hash
    assert {path.name for path in folder.iterdir()} == {
        "audit.json",
        "duplicates.jsonl",
        "folds",
        "index.html",
        "labels.jsonl",
        "lock",
    }


def test_the_page_is_whole_and_escapes_what_it_quotes(audited):
    text = (audited[0] / "index.html").read_text()
    assert "<script" not in text
    assert "<b>blocks" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; → " in text or " → &lt;script" in text
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
    found = audited[1]["labels"]
    assert len(addresses) == found["suspicious"] + len(found["most_suspicious"]) + 6
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    stack = []

    class Balanced(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in {"meta", "img", "br"}:
                stack.append(tag)

        def handle_endtag(self, tag):
            assert stack.pop() == tag

    Balanced().feed(text)
    assert not stack


def test_page_and_terminal_begin_with_the_most_suspicious(audited, spoilt, capsys):
    """Those of models that know little say that too."""
    folder, found = audited
    rows = lines(folder / "labels.jsonl")
    assert found["labels"]["most_suspicious"] == rows[:STRIP]
    ranks = [int(rank) for rank in re.findall(r"<figcaption>(\d+)\. #", page_text(folder))]
    assert ranks[: len(rows[:STRIP])] == [row["rank"] for row in rows[:STRIP]]
    show_audit(found)
    printed = capsys.readouterr().out
    assert printed.splitlines()[1].split()[0] == str(rows[0]["image"])
    assert "poor judges" not in printed + page_text(folder)

    known = spoilt.fitting("all")
    chance = np.eye(CLASSES)[(known.labels + (np.arange(len(known)) % 4 > 0)) % CLASSES]
    labels, rows = audit_labels(chance, known.labels, spoilt)
    poor = found | {"labels": labels}
    show_audit(poor)
    for said in (capsys.readouterr().out, render(poor, rows, [], known, spoilt)):
        assert "agree with only 25% of the labels" in " ".join(said.split())


def page_text(folder):
    return (folder / "index.html").read_text()


def test_folds_part_all_images_evenly_by_class():
    labels = np.random.RandomState(0).randint(0, 4, 101).astype(np.int32)
    numbers = fold_numbers(labels, 5)
    assert np.array_equal(numbers, fold_numbers(labels, 5))
    assert np.ptp(np.bincount(numbers, minlength=5)) <= 1
    for k in range(4):
        assert np.ptp(np.bincount(numbers[labels == k], minlength=5)) <= 1


def test_a_fold_is_an_honest_run(audited, spoilt):
    """Its val is what it has not seen, and it is not to be scored on the usual splits."""
    known = spoilt.fitting("all")
    numbers = fold_numbers(known.labels, 3)
    for k in range(3):
        run = Run(audited[0] / "folds" / str(k + 1))
        held_out = np.flatnonzero(numbers == k)
        part = fold_data(spoilt, known, held_out, "fold")
        assert np.array_equal(part.val.images, known.images[held_out])
        assert len(part.train) + len(part.val) == len(known)
        assert run.env["data"]["val_index_hash"] == part.val_index_hash != spoilt.val_index_hash
        assert run.env["data"]["hash"] == part.hash != spoilt.hash
        assert evaluate(run, part.val).correct == run.scores["val"]["correct"]
        for split in (spoilt.val, spoilt.test):
            with pytest.raises(UsageError, match="expected the data that it was trained on"):
                evaluate(run, split)


class StopsInFold(Progress):
    """Sends this process Ctrl-C's signal while the second fold is trained."""

    def start(self, run, *rest):
        self.name = run.name
        super().start(run, *rest)

    def update(self, update, *rest):
        if self.name == "2" and update == 20:
            signal.raise_signal(signal.SIGTERM)


def test_an_interrupted_audit_goes_on_where_it_stopped(audited, spoilt, tmp_path):
    """One fold finished, one with a checkpoint, one killed before it was a run."""
    folder = tmp_path / "audit"
    with pytest.raises(Interrupted, match=r"audit --resume \S*audit$") as stop:
        audit(TINY, spoilt, folder, folds=3, progress=StopsInFold("none"))
    assert stop.value.exit_code == 143
    assert {path.name for path in folder.iterdir()} == {"audit.json", "folds", "lock"}
    assert list((folder / "folds" / "2" / "checkpoint").glob("*.json"))
    (folder / "folds" / "3").mkdir()
    (folder / "folds" / "3" / "lock").touch()
    first = (folder / "folds" / "1" / "weights.safetensors").stat().st_mtime_ns
    resume(folder, spoilt, progress=QUIET)
    assert (folder / "folds" / "1" / "weights.safetensors").stat().st_mtime_ns == first
    for name in ("labels.jsonl", "duplicates.jsonl"):
        assert (folder / name).read_text() == (audited[0] / name).read_text()


def test_what_cannot_be_audited_is_refused(audited, spoilt, tmp_path):
    with pytest.raises(UsageError, match="fit_on=train"):
        audit(TINY.changed(fit_on="all"), spoilt, tmp_path / "new")
    with pytest.raises(UsageError, match="2 to 100, received 1"):
        audit(TINY, spoilt, tmp_path / "new", folds=1)
    with pytest.raises(RunError, match="exists already"):
        audit(TINY, spoilt, audited[0])
    with pytest.raises(RunError, match="expected an audit folder"):
        resume(tmp_path, spoilt)
    other = load_data(write_idx_set(tmp_path / "other"))
    with pytest.raises(RunError, match="the data is not the same"):
        resume(audited[0], other)
    assert not (tmp_path / "new").exists()


def test_a_folder_of_a_stranger_is_not_trusted(audited, spoilt, tmp_path):
    folder = shutil.copytree(audited[0], tmp_path / "audit")
    settings = json.loads((folder / "audit.json").read_text())
    for change, message in (
        ({"folds": "3"}, "folds: expected a whole number"),
        ({"folds": 10**9}, "expected 2 to 100"),
        ({"recipe": recipe("quick").to_json()}, "of another recipe"),
    ):
        (folder / "audit.json").write_text(json.dumps(settings | change))
        with pytest.raises((RunError, UsageError), match=message):
            resume(folder, spoilt, progress=QUIET)
    (folder / "audit.json").write_text(json.dumps(settings))
    logits, labels = Run(folder / "folds" / "1").load_logits("val")
    Run(folder / "folds" / "1").save_logits("val", logits, labels[::-1])
    with pytest.raises(RunError, match="other images than those of its fold"):
        resume(folder, spoilt, progress=QUIET)
    shutil.move(folder / "folds", tmp_path / "elsewhere")
    (folder / "folds").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="expected no link"):
        resume(folder, spoilt, progress=QUIET)
