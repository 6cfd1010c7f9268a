"""The committed evidence: of the recipes as they are, complete, and quoted as it says."""

import inspect
import json
import re
import runpy
import statistics
from pathlib import Path

import numpy as np
import pytest

from fmnist.recipes.results import RESULTS
from fmnist.recipes.shipped import RECIPES, changes_of
from fmnist.runs.origin import require_unchanged
from fmnist.runs.run import Run
from fmnist.scoring.evaluate import compile_forward, load_model

ROOT = Path(__file__).parents[2]
RECORDS = sorted(path.parent for path in ROOT.glob("records/*/results.jsonl"))
LARGEST = 8 * 10**6  # bytes of weights that are committed
SIDE_BY_SIDE = re.compile(
    r"^\| `([\w-]+)`[^|]* \|.*\*\*([\d.]+) %\*\*.*`(records/[^`]+)`", re.MULTILINE
)


def results(record):
    """The record's lines, one a seed."""
    text = (record / "results.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def mean(record):
    """The record's mean accuracy in percent, as it is quoted."""
    return f"{100 * statistics.mean(line['accuracy'] for line in results(record)):.2f}"


def is_current(record):
    """Whether it is of the recipe as shipped, and not of an earlier form."""
    return set(changes_of(Run(record).recipe)) <= {"seed", "fit_on"}


CURRENT = [record for record in RECORDS if is_current(record)]


def test_every_recipe_has_a_record():
    assert {Run(record).recipe.name for record in CURRENT} == set(RECIPES)


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name)
def test_a_record_is_of_the_recipe_as_shipped_or_says_what_came_after_it(record):
    recipe = Run(record).recipe
    if record not in CURRENT:
        later = [each for each in CURRENT if Run(each).recipe.name == recipe.name]
        text = (record / "README.md").read_text(encoding="utf-8")
        assert any(f"(../{each.name})" in text for each in later)
    # `make train` runs quick, so its record keeps val apart as that does.
    assert recipe.fit_on == ("train" if record.name == "2026-11-27-quick" else "all")
    lines = results(record)
    assert [line["seed"] for line in lines] == list(range(len(lines)))
    assert all(line["correct"] == round(line["accuracy"] * line["n"]) for line in lines)
    assert all(line["n"] == 10_000 for line in lines)
    text = (record / "README.md").read_text(encoding="utf-8")
    assert f"**{mean(record)} %**" in text


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name)
def test_a_recorded_seed_has_its_weights_in_float16(record):
    """They fit the recipe's network, and load as a run that `fmnist evaluate` scores."""
    run = Run(record)
    if 2 * run.env["parameters"] > LARGEST:
        assert not run.finished
        return
    arrays, about = run.load_weights(), run.about_weights()
    assert {array.dtype for array in arrays.values()} == {np.dtype("float16")}
    assert about["form"].endswith("float16")
    require_unchanged(run, about, "its weights")
    assert run.weights_path.stat().st_size <= LARGEST
    model, _ = load_model(run)
    logits = compile_forward(model, about["mean"], about["deviation"])(
        np.zeros((2, 28, 28, 1), np.uint8)
    )
    assert np.isfinite(logits).all()
    # Rounding the weights changes few answers.
    full = results(record)[run.recipe.seed]
    assert abs(run.scores["test"]["correct"] - full["correct"]) <= 20


def test_the_results_and_the_recipes_quote_the_records():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    quoted = SIDE_BY_SIDE.findall(page)
    assert {ROOT / path for _, _, path in quoted} == set(CURRENT)
    for name, figure, path in quoted:
        assert figure == mean(ROOT / path)
        card = inspect.getdoc(RECIPES[name])
        assert f"Test {figure} %" in card
        assert path in card
        (result,) = [each for each in RESULTS[name] if each.record == path]
        lines = results(ROOT / path)
        accuracies = [line["accuracy"] for line in lines]
        assert (result.seeds, f"{100 * result.accuracy:.2f}") == (len(lines), figure)
        spread = round(statistics.stdev(accuracies), 4) if len(lines) > 1 else None
        assert result.deviation == spread
        assert result.seconds == round(statistics.median(line["seconds"] for line in lines))
    recorded = [ROOT / result.record for every in RESULTS.values() for result in every]
    assert sorted(recorded) == sorted(CURRENT)


def test_the_leaderboard_is_that_of_the_records():
    page = runpy.run_path(str(ROOT / "tools" / "leaderboard.py"))["page"]()
    assert (ROOT / "records" / "README.md").read_text(encoding="utf-8") == page, (
        "python tools/leaderboard.py writes it anew"
    )
    for record in RECORDS:
        line = next(line for line in page.splitlines() if f"({record.name})" in line)
        assert f"| {mean(record)} %" in line


def test_the_readme_says_where_a_smaller_published_network_is_ahead(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    pareto = runpy.run_path(str(ROOT / "tools" / "pareto.py"))
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    told = re.search(r"Published networks of fewer parameters (.*?) draws them", text)[1]
    for point in pareto["records"]():
        ahead = pareto["ahead"](point)
        if f"| `{point.name}` |" in text and point.name != "reference":  # all are ahead of that
            assert (f"`{point.name}`" in told) == bool(ahead)
            assert all(f"{each.accuracy} %" in told for each in ahead)
    explained = (ROOT / "records" / "README.md").read_text(encoding="utf-8")
    notes = {point.note for point in pareto["PUBLISHED"]} - {""}
    assert notes
    assert all(f'"{note}"' in explained for note in notes)
