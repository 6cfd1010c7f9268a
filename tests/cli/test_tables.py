"""Tables in narrow terminals: columns are left out, a line says which, numbers stay whole."""

import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fmnist.cli import about, one_run, runs, score, search, tables, train
from fmnist.recipes.shipped import RECIPES, recipe
from fmnist.runs.run import Run
from fmnist.scoring.compare import compare, open_subject
from fmnist.scoring.figures import read_score, score_logits

RECORD = Path(__file__).parents[2] / "records" / "2026-11-27-quick"
NAME = "20261127-201939-reference-of-mine-with-a-long-name"
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", *"abcde")
FIELDS = {"model.filters": (256, 512, 512, 512), "learning_rate": 0.000123456, "epochs": 100}


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


@pytest.fixture(params=[60, 80, 100, 160])
def printed(request, monkeypatch):
    """`printed(show, …)`: the lines that a function prints, none longer than the terminal."""

    def lines_of(show, *arguments, **options):
        monkeypatch.setenv("COLUMNS", str(request.param))
        monkeypatch.setattr(sys, "stdout", Terminal())
        show(*arguments, **options)
        text = re.sub(r"\x1b\[[0-9;]*m", "", sys.stdout.getvalue())
        monkeypatch.undo()
        return request.param, text.splitlines()

    return lines_of


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two runs with long names, on 10,000 images that one of them has all right."""
    random = np.random.RandomState(0)
    labels = random.randint(0, 10, 10_000).astype("int32")
    made = []
    for end, noise in (("-a", 0.1), ("-b", 2)):
        logits = np.eye(10, dtype="f4")[labels] * 3 + random.normal(0, noise, (10_000, 10))
        env = json.loads((RECORD / "env.json").read_text(encoding="utf-8"))
        env |= {
            "data": env["data"] | {"name": "my-own-photos-of-clothes"},
            "created": "2026-11-27T20:19:39+00:00",
            "classes": list(CLASSES),
            "parameters": 57_288_202,
        }
        path = tmp_path_factory.mktemp("runs") / (NAME + end)
        run = Run.create(path, recipe("reference", **FIELDS), env)
        (line, *_) = (RECORD / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        run.append_metrics(json.loads(line) | {"seconds": 123456.7})
        score = score_logits(logits, labels, CLASSES, "val", images_per_second=12.3)
        run.save_score("val", score.to_json())
        run.save_score("test", score.to_json() | {"split": "test", "times_opened": 123})
        run.save_logits("val", logits.astype("f4"), labels)
        run.save_weights({"kernel": np.zeros(1, "f4")}, {})
        made.append(run)
    return made


def whole_numbers(lines, width, *expected):
    """No line is wider than the terminal; what stands in a line of the table stands there whole."""
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for number in expected:
        assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![,.]?\d)", text), (number, text)


def test_runs(pair, printed):
    rows = [runs.run_row(run) for run in pair]
    width, lines = printed(runs.show_runs, rows)
    assert lines[0] == "my-own-photos-of-clothes (val n=10,000, test n=10,000):"
    accuracy = tables.short_score(rows[1]["val"], 10_000)
    whole_numbers(lines, width, accuracy, "100.00±0.02")
    columns = {"opened": "123×", "created": "2026-11-27", "seconds": "123,457"}
    columns |= {"parameters": "57,288,202"}
    left_out = [column for column in columns if column not in lines[1].split()]
    assert bool(left_out) == (width < 160)
    note = f"left out at {width} columns: {', '.join(left_out)}; --wide shows them"
    assert (note in " ".join(line.strip() for line in lines)) == bool(left_out)
    for column, value in columns.items():
        assert any(value in line for line in lines) == (column not in left_out)
    whole_numbers(lines, width, "100", "0.0001235")
    _, all_of_it = printed(runs.show_runs, rows, wide=True)
    assert all(value in all_of_it[2] for value in (NAME, *columns.values()))


def test_runs_show(pair, printed, monkeypatch):
    monkeypatch.chdir(pair[0].path.parent)
    run = Run(pair[0].path.name)
    run.append_metrics({"update": 1, "seconds": 1.0, "peak_memory": 1_230_000_000})
    run.change_env(command=["/some/where/fmnist", "train", "reference", "--run", "a b"])
    width, lines = printed(one_run.show_run, run)
    text = " ".join(" ".join(lines).split())
    for said in (
        "2026-11-27T20:19:39+00:00",
        f"commit {run.env['commit'][:7]}",
        f"micro-batch {run.env['micro_batch']}, peak memory 1.23 GB",
        "command: fmnist train reference --run 'a b'",
        "recipe (* differs from reference's own): ",
    ):
        assert said in text
    marked = {word[1:].partition("=")[0] for word in text.split() if word.startswith("*")}
    assert marked - {""} == {"learning_rate", "epochs"}
    whole_numbers(lines, width, "57,288,202", "0.000123456", "100.00%")


def test_compare(pair, printed):
    subjects = [open_subject([run], "val") for run in pair]
    width, lines = printed(score.show_comparison, subjects, compare(subjects), "val")
    about = subjects[1].describe()
    low, high = (100 * bound for bound in about["interval"])
    whole_numbers(lines, width, "100.00", f"{100 * about['accuracy']:.2f}", f"{low:.2f}–{high:.2f}")
    whole_numbers(lines, width, "0.0001")


def test_recipes(printed):
    recipes = {name: about._describe(make()) for name, make in RECIPES.items()}
    width, lines = printed(about.show_recipes, recipes)
    whole_numbers(lines, width, "57,288,202", "94.29±0.12", "4,839", "94.37±0.13")
    assert len([line for line in lines if line.startswith("reference ")]) == 2
    width, lines = printed(about.show_recipe, RECIPES["strong"]())
    assert max(map(len, lines)) <= width
    assert any(line.startswith("epochs=72 ") for line in lines)


def test_compare_of_several_is_a_table(pair, printed, tmp_path):
    others = [shutil.copytree(pair[1], tmp_path / str(i) / pair[1].name) for i in range(6)]
    subjects = [open_subject([run], "val") for run in (pair[0], *others)]
    pairs = compare(subjects)
    width, lines = printed(score.show_comparison, subjects, pairs, "val")
    difference, (low, _) = pairs[0].difference, pairs[0].interval
    whole_numbers(lines, width, f"{100 * difference:+.2f}", f"{100 * low:+.2f}", "0.0001")
    assert sum("worse" in line for line in lines) == 6
    assert "corrected for 6 comparisons (Bonferroni)" in " ".join(lines)


def test_scores(pair, printed):
    of_pair = read_score(pair[1].scores["val"])
    width, lines = printed(tables.show_score, of_pair)
    whole_numbers(lines, width, f"{of_pair.loss:.4f}", "10,000")
    rows = [line.split() for line in lines]
    if width == 60:
        assert "most frequent mistakes" in "\n".join(lines)
    else:
        for row in of_pair.confusion:
            assert any(line[-10:] == [str(n) if n else "·" for n in row] for line in rows)


def test_a_confusion_matrix_that_is_too_wide_is_its_largest_mistakes(printed):
    names = [f"class {i}" for i in range(60)]
    confusion = [[1234 if (i, j) == (7, 9) else int(i == j) for j in range(60)] for i in range(60)]
    width, lines = printed(tables.show_confusion, names, confusion)
    assert max(map(len, lines)) <= width
    assert lines[-2].split() == ["class", "images", "taken", "for"]
    assert lines[-1].split() == ["class", "7", "1,234", "class", "9"]


def test_an_ensemble(pair, printed):
    weights = {"model": {"weights": [0.25, 0.75]}}

    class Combined:
        """What of a run is printed."""

        recipe_json, scores, path = weights, {}, "runs/both"

    width, lines = printed(train.show_ensemble, pair, Combined)
    whole_numbers(lines, width, "0.250", "100.00±0.02")


def test_trials(printed):
    values = {f"model.of_a_long_name_{i}": 0.000123456 for i in range(8)}
    row = {"trial": 1234, "state": "complete", "val": 0.98765, "epochs": 100, "seconds": 123456.7}
    rows = [row | {"values": values, "reason": None}]
    width, lines = printed(lambda: tables.print_table(search.trials_table(rows)))
    whole_numbers(lines[:2], width, "1234", "98.77")
    assert any(line.startswith(f"left out at {width} columns: seconds, epochs") for line in lines)
