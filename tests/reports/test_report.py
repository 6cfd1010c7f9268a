"""Reports: what the page says against the run's own numbers, hostile names, refusals."""

import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hostile import altered, error_of
from hypothesis import given, settings
from hypothesis import strategies as st
from idx import write_idx_set
from test_pictures import pixels_of

import fmnist
from fmnist import files
from fmnist.errors import FmnistError, RunError, UsageError
from fmnist.recipes.shipped import parse_settings, recipe
from fmnist.reports.figures import PICTURES, describe_run
from fmnist.reports.report import OCCLUDED, _look_inside, choose_split, write_report
from fmnist.runs.reproduce import training_command
from fmnist.runs.run import Run
from fmnist.scoring.compare import compare, open_subject
from fmnist.scoring.evaluate import compile_forward, load_model
from fmnist.scoring.figures import probabilities

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$\\frac{", "{{ 7*7 }}"]
SMALL = {
    "model.filters": "4,4",
    "model.dense_units": 8,
    "precision": "float32",
    "epochs": 2,
    "batch_size": 64,
    "learning_rate": 3e-3,
}


class Page(HTMLParser):
    """A page's elements as (tag, attributes), and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def pictures(self):
        return [at["src"] for tag, at in self.elements if tag == "img"]


def page_of(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_idx_set(tmp_path_factory.mktemp("data") / "a 'set'", train=600, classes=4)
    (folder / "classes.txt").write_text("\n".join(HOSTILE), encoding="utf-8")
    return fmnist.load_data(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """Two runs, whose folders nothing may change."""
    place = tmp_path_factory.mktemp("trained")
    names = ("<b>first & 'best'", "second")
    return [
        fmnist.train(fmnist.recipe("reference", **SMALL, seed=seed), data, place / name)
        for seed, name in enumerate(names)
    ]


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the first run."""
    shutil.copytree(trained[0].path, tmp_path / "runs" / "copy")
    return Run(tmp_path / "runs" / "copy")


@pytest.fixture(scope="module")
def page(trained, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "new folder" / "report.html"
    made = write_report([trained[0]], "val", data, out)
    assert made["report"] == str(out)
    return page_of(out)


@pytest.fixture(scope="module")
def both(trained, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("both") / "report.html"
    made = fmnist.report([trained[0], trained[1].path], data, str(out))
    assert (made["report"], made["split"]) == (str(out), "val")
    return page_of(out)


# the page


@pytest.mark.parametrize("which", ["page", "both"])
def test_a_page_needs_no_other_file_and_runs_nothing(which, request):
    page = request.getfixturevalue(which)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/png;base64,")), (tag, value)
        assert "url(" not in attributes.get("style", "").replace("url(#", "")


@pytest.mark.parametrize("which", ["page", "both"])
def test_hostile_names_are_shown_as_they_are(which, request, trained):
    page = request.getfixturevalue(which)
    for name in (*HOSTILE, trained[0].name):
        assert name in page.text


def test_the_headline_is_the_runs_score(page, trained):
    score = trained[0].scores["val"]
    assert f"{100 * score['accuracy']:.2f}" in page.text
    low, high = score["interval"]
    right = f"of {score['n']:,} validation images are classified correctly"
    assert f"{right}, 95 % interval {100 * low:.2f} to " in page.text.replace("\xa0", " ")
    assert f"{100 * high:.2f}." in page.text
    assert "mean over image and mirror image" in page.text
    assert "Test was never opened" in page.text
    assert f"{trained[0].env['parameters']:,}" in page.text


def test_pictures_are_the_images_named_beneath_them(page, data, trained):
    shown = [
        (int(re.match(r"image (\d+)", at["alt"])[1]), pixels_of(at["src"]))
        for tag, at in page.elements
        if tag == "img" and at["alt"].startswith("image ")
    ]
    assert len(shown) >= PICTURES + OCCLUDED
    for number, pixels in shown:
        assert np.array_equal(pixels, data.val.images[number, :, :, 0])


def test_filters_are_those_of_the_weights(page, trained):
    kernel = next(v for v in trained[0].load_weights().values() if v.ndim == 4)
    tiles = [
        pixels_of(at["src"])
        for tag, at in page.elements
        if tag == "img" and at["alt"].startswith("filter ")
    ]
    assert len(tiles) == kernel.shape[3] == 4
    for i, tile in enumerate(tiles):
        each = kernel[:, :, 0, i]
        assert np.abs(tile - (127.5 + 127.5 * each / np.abs(each).max())).max() <= 1


def test_maps_are_of_the_class_that_the_run_gave(trained, data):
    subject = open_subject([trained[0]], "val")
    found = _look_inside(subject, data.val, [3, 1])
    assert [each["image"] for each in found["maps"]] == [3, 1]
    model, about = load_model(trained[0])
    forward = compile_forward(model, about["mean"], about["deviation"])
    label = int(subject.logits[0, 3].argmax())
    covered = data.val.images[3:4].copy()
    covered[0, 15 - 3 : 15 + 4, 9 - 3 : 9 + 4] = round(255 * about["mean"])
    whole, less = probabilities(forward(np.concatenate([data.val.images[3:4], covered])))
    assert found["maps"][0]["map"][15, 9] == pytest.approx(whole[label] - less[label], abs=1e-5)


def test_several_runs_are_compared(both, trained, data):
    subjects = [open_subject([each], "val") for each in trained]
    pairs = compare(subjects)
    assert str(pairs[0]) in both.text
    for each in trained:
        assert f"{100 * each.scores['val']['accuracy']:.2f}" in both.text
    links = [at["href"] for tag, at in both.elements if tag == "a"]
    assert links == ["#run-1", "#run-2"]
    assert {f"#{at['id']}" for tag, at in both.elements if tag == "article"} == set(links)


# the figures


def test_figures_agree_with_the_logits(trained):
    logits, labels = trained[0].load_logits("val")
    chance = probabilities(logits)
    told = describe_run(open_subject([trained[0]], "val"), "val")
    wrong = np.flatnonzero(chance.argmax(axis=1) != labels)
    assert len(wrong)
    assert [each["image"] for each in told["mistakes"]] == sorted(
        wrong.tolist(), key=lambda i: (-chance[i].max(), i)
    )[:PICTURES]
    assert [each["image"] for each in told["doubtful"]] == sorted(
        range(len(labels)), key=lambda i: (chance[i].max(), i)
    )[:PICTURES]
    first = told["doubtful"][0]
    assert first["label"] == HOSTILE[labels[first["image"]]]
    assert first["of_label"] == pytest.approx(chance[first["image"], labels[first["image"]]])
    assert sum(each["n"] for each in told["bins"]) == len(labels)
    counts = np.array([[cell["n"] for cell in row] for row in told["confusion"]])
    assert counts.tolist() == trained[0].scores["val"]["confusion"]
    assert sum(pair["n"] for pair in told["confusions"]) == len(wrong)  # six pairs of four classes
    cells = [cell for row in told["confusion"] for cell in row]
    by_colour, by_share = (
        sorted(range(len(cells)), key=lambda i: cells[i][key]) for key in ("strength", "share")
    )
    assert by_colour == by_share


def test_the_command_trains_the_same_recipe(trained, data):
    words = shlex.split(training_command(trained[0]))
    assert words[-2:] == ["--data", str(data.folder.resolve())]
    settings = [value for name, value in pairwise(words) if name == "--set"]
    assert words[words.index("train") + 1] == "reference"
    again = recipe("reference", **parse_settings(settings))
    assert again == trained[0].recipe


@pytest.mark.parametrize("which", ["page", "both"])
def test_a_page_names_no_folder_of_this_machine(which, request, trained, data):
    text = request.getfixturevalue(which).text
    assert f"--data {shlex.quote(data.folder.name)}" in text
    assert str(data.folder.parent) not in text
    assert str(trained[0].path.parent) not in text


def test_losses_that_are_no_one_quantity_are_told_apart(run):
    def told():
        return describe_run(open_subject([Run(run.path)], "val"), "val")

    assert told()["train_loss"] == ["labels that are smoothed by 0.1"]
    run.change_env(teachers=[{"run": "/home/me/runs/t", "weights": "0" * 64}])
    assert told()["train_loss"][1].startswith("a teacher's answers")
    assert ("teacher t", "0" * 16) in told()["env"]
    assert told()["command"].endswith(" --teacher t")
    changes = {"label_smoothing": 0.0, "distillation": 0.0}
    path = run.path / "recipe.json"
    files.write_json(path, files.read_json(path) | changes)
    assert told()["train_loss"] == []


def test_groups_are_compared_as_such(run, trained, data, tmp_path):
    twins = open_subject([run, trained[1]], "val", "narrow")
    made = write_report([twins, trained[0]], "val", data, tmp_path / "page.html")
    assert [each["run"] for each in made["runs"]] == ["copy", "second", trained[0].name]
    page = page_of(tmp_path / "page.html")
    assert "2 groups on" in page.text
    assert "Where narrow and" in page.text
    assert "1 narrow: copy" in page.text.replace("\u2002", "")
    assert [at.get("id") for tag, at in page.elements if tag == "article"] == [
        "run-1",
        None,
        "run-2",
    ]
    with pytest.raises(UsageError, match="another group to compare narrow with"):
        write_report([twins], "val", data, tmp_path / "page.html")


def test_the_command_names_what_else_the_run_needs(run):
    run.change_env(backend="jax", teachers=[{"run": "runs/a b; rm -r x", "weights": "0" * 64}])
    path = run.path / "recipe.json"
    files.write_json(path, files.read_json(path) | {"name": "my-own"})
    assignment, *words = shlex.split(training_command(run))
    assert assignment == "KERAS_BACKEND=jax"
    assert words[words.index("train") + 1] == str(path)
    assert words[-2:] == ["--teacher", "runs/a b; rm -r x"]


# which split


def test_test_is_shown_where_it_was_scored_and_never_scored_here(run, data, tmp_path):
    with pytest.raises(RunError, match=r"was not scored on test; .*evaluate .* --split test"):
        choose_split([run], "test")
    assert not run.ledger.path.exists()
    score = fmnist.evaluate(run, data.test)
    ledger = run.ledger.path.read_bytes()
    assert choose_split([run], "test") == "test"
    assert choose_split([run]) == "val"
    made = write_report([run], "test", data, tmp_path / "page.html")
    assert made["runs"][0]["accuracy"] == score.accuracy
    assert "Test was opened 1×" in page_of(tmp_path / "page.html").text
    assert run.ledger.path.read_bytes() == ledger


def test_a_run_on_all_images_is_reported_on_test(run, data):
    path = run.path / "recipe.json"
    files.write_json(path, files.read_json(path) | {"fit_on": "all"})
    with pytest.raises(UsageError, match="trained on the validation images too; use --split test"):
        choose_split([run], "val")
    with pytest.raises(RunError, match="was not scored on test"):
        choose_split([run])


# what is damaged, missing or another's


def test_other_labels_than_the_datas_are_refused(run, data, tmp_path):
    logits, labels = run.load_logits("val")
    run.save_logits("val", logits, np.roll(labels, 1))
    (run.path / "score.json").unlink()
    with pytest.raises(RunError, match="logits are of other images"):
        write_report([run], "val", data, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_other_data_is_refused(run, tmp_path):
    other = fmnist.load_data(write_idx_set(tmp_path / "other", train=600, classes=4, seed=7))
    with pytest.raises(UsageError, match="expected the data that it was trained on"):
        write_report([run], "val", other, tmp_path / "page.html")


def test_a_score_that_the_logits_do_not_give_is_refused(run, data, tmp_path):
    scores = files.read_json(run.path / "score.json")
    scores["val"]["correct"] += 1
    files.write_json(run.path / "score.json", scores)
    with pytest.raises(RunError, match=r"claims \d+ right on val, its logits give \d+; .*verify"):
        write_report([run], "val", data, tmp_path / "page.html")


@pytest.mark.parametrize(
    "line", [{"epoch": 10**400}, {"epoch": -1}, {"val_loss": "x"}, {"accuracy": 10**400}]
)
def test_curves_that_cannot_be_drawn_are_refused(run, data, tmp_path, line):
    whole = {"epoch": 3, "update": 9, "loss": 1.0, "accuracy": 0.5, "seconds": 2.0} | line
    run.append_metrics(whole)
    with pytest.raises(RunError, match=r"metrics\.jsonl"):
        write_report([run], "val", data, tmp_path / "page.html")


def test_without_weights_all_but_the_networks_inside_is_shown(run, data, tmp_path):
    run.weights_path.unlink()
    (run.path / "metrics.jsonl").unlink()
    write_report([run], "val", data, tmp_path / "page.html")
    page = page_of(tmp_path / "page.html")
    assert "has not kept its weights" in page.text
    assert "no learning curve" in page.text
    assert len(page.pictures()) >= PICTURES


def test_a_report_is_written_anew(run, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        made = write_report([run], "val", data)
        assert made["report"] == "reports/copy.html"
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["copy.html"]


@pytest.mark.parametrize("images", [[50], [0, 10**8]])
def test_images_that_are_not_there_are_refused(run, data, tmp_path, images):
    assert len(data.val) == 48
    with pytest.raises(UsageError, match="expected 0 to 47, the images of val, received"):
        write_report([run], "val", data, tmp_path / "page.html", images)


def test_images_are_for_one_run(trained, data, tmp_path):
    with pytest.raises(UsageError, match="--images"):
        write_report(trained, "val", data, tmp_path / "page.html", [1])


@given(draw=st.data())
@settings(max_examples=15)
def test_any_folder_is_reported_or_refused(trained, data, tmp_path_factory, draw):
    """One part of one of its files is another; the network's inside is left out."""
    run = Run(shutil.copytree(trained[0].path, tmp_path_factory.mktemp("odd") / "run"))
    run.weights_path.unlink()
    name = draw.draw(st.sampled_from(["recipe.json", "env.json", "score.json", "metrics.jsonl"]))
    lines = (run.path / name).read_text(encoding="utf-8").splitlines()
    text = "\n".join(lines) if name.endswith("json") else lines[0]
    (run.path / name).write_text(json.dumps(draw.draw(altered(json.loads(text)))))

    def write():
        write_report([run], choose_split([run]), data, run.path / "page.html")

    assert "\n" not in error_of(write, FmnistError)
