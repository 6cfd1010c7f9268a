"""The page of a sweep: what it says against the trials' own numbers, hostile names, refusals."""

import json
import re
from html.parser import HTMLParser

import pytest
from optuna.trial import TrialState
from tiny import QUIET

import fmnist
from fmnist.errors import UsageError
from fmnist.runs.run import Run
from fmnist.scoring.compare import compare, open_subject
from fmnist.search.page import LEAST, importance, own_row, sweep_page, verdict
from fmnist.search.sweep import Sweep

HOSTILE = "<script>alert(1) $\\frac{"
SMALL = {
    "model.filters": "4",
    "model.pool_after": "1",
    "batch_size": 70,
    "precision": "float32",
    "epochs": 2,
}
OVER = ["learning_rate=log:0.001..1", "crop=0/1/2"]


class Page(HTMLParser):
    """A page's elements as (tag, attributes), and its text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def tell(sweep, values, accuracy, state=TrialState.COMPLETE):
    """A trial of some values, as a process that ended would have left it."""
    sweep.study.enqueue_trial(values)
    trial = sweep.study.ask(sweep.space)
    for epoch in range(1, 3 if state == TrialState.COMPLETE else 2):
        trial.report(accuracy - 0.1 / epoch, epoch)
    sweep.study.tell(trial, accuracy if state == TrialState.COMPLETE else None, state=state)
    return trial.number


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, small_set):
    """The recipe's own values and the best were trained, others are told; nothing may change it."""
    recipe = fmnist.recipe("quick", **SMALL, learning_rate=0.001, crop=0)
    folder = tmp_path_factory.mktemp("sweep") / HOSTILE
    made = fmnist.sweep(recipe, OVER, folder, data=small_set, trials=1)
    best = recipe.changed(learning_rate=0.05, crop=1)
    fmnist.train(best, fmnist.load_data(small_set), made.folder_of(1), progress=QUIET)
    tell(made, {"learning_rate": 0.05, "crop": "1"}, 1.0)
    for i in range(LEAST):  # only the learning rate matters
        values = {"learning_rate": 0.002 * 1.5**i, "crop": "012"[i % 3]}
        tell(made, values, 0.1 + 0.05 * i)
    tell(made, {"learning_rate": 0.9, "crop": "2"}, 0.2, TrialState.PRUNED)
    tell(made, {"learning_rate": 0.8, "crop": "2"}, 0.1, TrialState.FAIL)
    return made


def test_the_page_says_what_the_trials_say(sweep, tmp_path):
    out = tmp_path / "new folder" / "sweep.html"
    sweep_page(sweep, out)
    page = Page(out)
    rows, best = sweep.rows(), sweep.best()
    assert best["trial"] == 1
    assert f"{100 * best['val']:.2f} %" in page.text
    assert f"the best of {LEAST + 2} finished and {LEAST + 4} in all" in page.text
    for row in rows:
        cells = [str(row["trial"]), row["state"], *[", the recipe's own"] * (row["trial"] == 0)]
        shown = f"{' '.join(cells)} {100 * row['val']:.2f} {row['epochs']}"
        assert shown.replace(" ,", ",") in page.text.replace(" ,", ","), row
    assert sweep.command_for(best) in page.text
    assert verdict(own_row(sweep), best) in page.text
    assert f"{HOSTILE} – fmnist sweep" in page.text
    dots = [at["style"] for tag, at in page.elements if tag == "use" and "style" in at]
    assert sum("fill: var(--paper)" in style for style in dots) == 2 * 2  # in either field's plot
    assert sum("fill: var(--accent)" in style for style in dots) == 2 + 2  # and two epochs
    shares = importance(sweep)
    assert next(iter(shares)) == "learning_rate"
    assert sum(shares.values()) == pytest.approx(1)
    assert f"learning_rate {shares['learning_rate']:.0%}" in page.text
    sweep_page(sweep, out)  # an earlier page is replaced


def test_the_page_needs_no_other_file_and_runs_nothing(sweep, tmp_path):
    sweep_page(sweep, tmp_path / "sweep.html")
    page = Page(tmp_path / "sweep.html")
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "img"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert attributes.get(name, "#").startswith("#"), (tag, name)


def test_the_best_is_compared_with_the_recipes_own_image_by_image(sweep):
    own, best = own_row(sweep), sweep.best()
    runs = [open_subject([Run(row["run"])], "val") for row in (own, best)]
    (pair,) = compare(runs)
    said = verdict(own, best)
    assert f"{100 * abs(pair.difference):.2f} points" in said or "equally often" in said
    assert f"p = {pair.p:.2g}" in said
    assert "trial 1" in said.lower()
    assert "the recipe's own" in said.lower()
    assert "did better" in verdict(own, own)
    assert "compared with none" in verdict(None, best)
    assert "could not be compared" in verdict(own, best | {"run": best["run"] + "0"})


def test_few_trials_are_shown_without_importance(tmp_path):
    sweep = Sweep.create(tmp_path / "s", fmnist.recipe("quick"), OVER)
    sweep_page(sweep, tmp_path / "none.html")
    assert "No trial was finished." in Page(tmp_path / "none.html").text
    tell(sweep, {"learning_rate": 0.1, "crop": "1"}, 0.5)
    sweep_page(sweep, tmp_path / "one.html")
    assert f"from {LEAST} finished trials on. There are 1." in Page(tmp_path / "one.html").text


def test_the_command_writes_the_page(sweep, tmp_path, capsys):
    from fmnist.cli.main import app

    words = ["sweep", "--resume", str(sweep.path), "--trials=0", "--json", "--quiet"]
    app([*words, f"--html={tmp_path / 'page.html'}"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["page"] == str(tmp_path / "page.html")
    assert "fmnist sweep" in Page(tmp_path / "page.html").text
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    with pytest.raises(UsageError, match="choose another name"):
        app([*words, f"--html={mine}"], standalone_mode=False)
    assert mine.read_text() == "mine"
