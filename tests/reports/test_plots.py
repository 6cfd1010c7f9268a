"""Plots: that they are SVG of the page's own colours, and show the numbers that they are given."""

import re
from xml.etree import ElementTree

import pytest

from fmnist.reports import plots

EPOCHS = [
    {
        "epoch": i,
        "loss": 2 / i,
        "accuracy": 1 - 0.5 / i,
        "val_loss": 1 / i,
        "val_accuracy": 1 - 0.4 / i,
        "seconds": 10.0 * i,
    }
    for i in (1, 2, 3)
]
BINS = [
    {
        "low": i / 15,
        "high": (i + 1) / 15,
        "n": n,
        "confidence": (i + 0.4) / 15 if n else None,
        "accuracy": 1.0 if n else None,
    }
    for i, n in enumerate([0] * 5 + [3, 0, 9, 1, 0, 0, 5, 8, 13, 21])
]
SUBJECTS = [
    {"accuracy": a, "interval": (a - 0.01, a + 0.01), "parameters": p, "seconds": s}
    for a, p, s in ((0.9, 1000, 5.0), (0.95, 20_000, None), (0.94, 3e6, 80.0))
]


def texts(svg):
    return [node.text for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


@pytest.mark.parametrize(
    "svg",
    [
        *plots.learning_curves(EPOCHS),
        *plots.learning_curves(EPOCHS, apart=True),
        *plots.learning_curves(EPOCHS[:1]),
        *plots.learning_curves(
            [{k: EPOCHS[0][k] for k in ("epoch", "loss", "accuracy")} | {"seconds": 0.0}]
        ),
        plots.reliability(BINS),
        plots.pareto(SUBJECTS, "parameters", "parameters"),
        plots.pareto(SUBJECTS[1:2], "seconds", "seconds"),
    ],
)
def test_plots_take_the_pages_colours_and_nothing_from_elsewhere(svg):
    assert svg.startswith("<svg")
    root = ElementTree.fromstring(svg)
    assert "var(--muted)" in svg
    assert not re.findall(r"(?:fill|stroke): #(?!0{6}|f{6})[0-9a-f]+", svg)
    for node in root.iter():
        for name, value in node.attrib.items():
            assert not name.endswith("href") or value.startswith("#")
    assert "<metadata>" not in svg


def test_plots_are_the_same_each_time():
    assert plots.learning_curves(EPOCHS) == plots.learning_curves(EPOCHS)


def test_seconds_stand_above_epochs():
    loss, accuracy = plots.learning_curves(EPOCHS)
    assert {"epochs", "1", "2", "3", "seconds of training", "10", "30"} <= set(texts(loss))
    assert any(text.endswith(" %") for text in texts(accuracy))


def test_losses_apart_have_an_axis_with_a_name_each():
    one, two = (plots.learning_curves(EPOCHS, apart)[0] for apart in (False, True))
    assert not {"train", "val"} & set(texts(one))
    assert {"train", "val"} <= set(texts(two))
    alone = [{k: v for k, v in line.items() if not k.startswith("val")} for line in EPOCHS]
    assert plots.learning_curves(alone, True) == plots.learning_curves(alone)


def test_the_front_is_drawn_for_a_single_best_run_too():
    for subjects in (SUBJECTS, SUBJECTS[1:]):  # of the latter the cheaper is the better
        assert plots.pareto(subjects, "parameters", "parameters").count("stroke-dasharray") == 1


def test_a_single_epoch_is_no_fraction():
    assert not [text for text in texts(plots.learning_curves(EPOCHS[:1])[1]) if "1.0" in text]


def test_runs_keep_their_numbers_where_one_has_no_cost():
    assert {"1", "2", "3"} <= set(texts(plots.pareto(SUBJECTS, "parameters", "parameters")))
    shown = texts(plots.pareto(SUBJECTS, "seconds", "seconds"))
    assert "2" not in shown
    assert {"1", "3"} <= set(shown)
