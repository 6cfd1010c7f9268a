"""One HTML file about a run, or several: what they score, how sure they are, where they err.

The figures come from the run folders, the pictures from the data set. Nothing is scored here: the
answers are the logits that training (val) or `fmnist evaluate` (val, test) kept.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmnist import files
from fmnist.data.splits import Data, Split
from fmnist.errors import RunError, UsageError
from fmnist.recipes.text import plain
from fmnist.reports import pictures, plots
from fmnist.reports.figures import answer_of, describe_comparison, describe_run
from fmnist.reports.occlusion import occlusion_map
from fmnist.reports.templates import environment
from fmnist.runs.run import Run
from fmnist.scoring.compare import Subject, named_runs, open_subject
from fmnist.scoring.evaluate import compile_forward, load_model
from fmnist.scoring.views import BATCH

OCCLUDED = 4  # right answers, and as many mistakes, whose regions are looked at
FILTERS = 64  # of the first layer
MARK = "– fmnist report</title>"


def choose_split(opened: Sequence[Run], asked: str | None = None) -> str:
    """The split to report: val, but test where a run was trained on all images, or as asked.

    Raises RunError where a run has no logits of it, UsageError for val where there is none.
    """
    on_all = [run for run in opened if run.recipe.fit_on == "all"]
    if on_all and asked == "val":
        raise UsageError(
            f"{on_all[0].path}: was trained on the validation images too; use --split test"
        )
    split = asked or ("test" if on_all else "val")
    for run in opened:
        run.load_logits(split)
    return split


def report(
    runs: Sequence[Any] | Mapping[str, Any],
    data: Data,
    out: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    images: Sequence[int] = (),
) -> dict[str, Any]:
    """Write an HTML page about one run, or about several that are compared with the first.

    Args:
        runs: each a `Run`, its folder or its name, or a group of these, as `compare` takes them.
        split: "val" or "test", which must have been scored; by default val, and test for a run that
            was trained on all images.

    All else is as in `write_report`: `data` are those that the runs were trained on, `out` the
    file, by default `reports/NAME.html`, `images` the indices of images to look at. Returns
    "report", the file's path, "split", and "runs", their scores. Raises RunError, UsageError.
    """
    named = named_runs(runs)
    chosen = choose_split([run for _, group in named for run in group], split)
    subjects = [open_subject(group, chosen, name) for name, group in named]
    return write_report(subjects, chosen, data, None if out is None else Path(out), images)


def write_report(
    opened: Sequence[Run | Subject],
    split: str,
    data: Data,
    out: Path | None = None,
    images: Sequence[int] = (),
) -> dict[str, Any]:
    """Write the report on runs that were scored on a split, as one file that needs no other.

    Args:
        opened: one run, which is shown in full, or several, which are compared with the first; or
            groups of runs, as `open_subject` makes them.
        split: "val" or "test", as `choose_split` gives it.
        data: the data that the runs were trained on; for the pictures.
        out: the file, new or an earlier report; by default `reports/NAME.html`.
        images: of one run, the images by their index in the split for which to show the regions
            that mattered; by default some right answers and the most confident mistakes.

    Returns the file's path, the split, and each run's score without its tables.
    Raises RunError, UsageError.
    """
    subjects = [o if isinstance(o, Subject) else open_subject([o], split) for o in opened]
    # Each run by itself, with its subject's number.
    singles = [
        (number, open_subject([run], split))
        for number, subject in enumerate(subjects, 1)
        for run in subject.runs
    ]
    compact = len(singles) > 1
    if images and compact:
        raise UsageError("--images: is for a report on one run; leave it out")
    if compact and len(subjects) == 1:
        raise UsageError(f"report: expected another group to compare {subjects[0].name} with")
    if out is None:
        more = f"-and-{len(subjects) - 1}-more" if compact else ""
        out = Path("reports") / f"{subjects[0].name}{more}.html"
    files.require_own(out, MARK)
    shown = data.test.open() if split == "test" else data.val
    for _, single in singles:
        _check(single, data, shown)
    if any(not 0 <= i < len(shown) for i in images):
        raise UsageError(
            f"--images: expected 0 to {len(shown) - 1}, the images of {split}, received "
            f"{','.join(map(str, images))}"
        )
    described = [{"number": n} | describe_run(each, split, compact) for n, each in singles]
    comparison = describe_comparison(subjects) if compact else None
    inside = None if compact else _look_inside(subjects[0], shown, images)
    text = _render(
        shown, split=split, data=data.name, runs=described, comparison=comparison, inside=inside
    )
    files.write_own(out, MARK, lambda p: p.write_text(text, encoding="utf-8", errors="replace"))
    return {
        "report": str(out),
        "split": split,
        "runs": [
            {"run": each["name"]}
            | {
                key: getattr(each["score"], key)
                for key in (
                    "n",
                    "accuracy",
                    "interval",
                    "loss",
                    "expected_calibration_error",
                    "times_opened",
                )
            }
            for each in described
        ],
    }


def _check(subject: Subject, data: Data, shown: Split) -> None:
    """Refuse a run whose logits are not of the images that would be shown beside them."""
    run, env = subject.runs[0], subject.runs[0].env
    run.require_data(data.hash, data.name)
    if not np.array_equal(subject.labels, shown.labels):
        raise RunError(f"{run.path}: its logits are of other images than the data's")
    if env["shape"] != list(data.shape) or len(env["classes"]) != len(data.classes):
        raise RunError(f"{run.path}: env.json does not fit the data's images or classes")


# what needs the weights


def _look_inside(subject: Subject, shown: Split, images: Sequence[int]) -> dict[str, Any] | None:
    """The first layer's kernel and the maps of some images; None for a run without its weights."""
    run = subject.runs[0]
    if not run.finished:
        return None
    env = run.env
    model, about = load_model(run)
    if about["shape"] != env["shape"] or about["classes"] != env["classes"]:
        raise RunError(f"{run.weights_path}: its shape or classes are not those of env.json")
    forward = compile_forward(model, about["mean"], about["deviation"])
    grey = int(np.clip(round(255 * about["mean"]), 0, 255))
    batch = min(BATCH, env["micro_batch"])
    maps = []
    for i in images or _worth_a_look(subject):
        label = int(subject.chance[i].argmax())
        lost = occlusion_map(forward, shown.images[i], grey, label=label, batch=batch)
        maps.append(answer_of(subject, i) | {"map": lost, "lost": float(lost.max())})
    kernels = (getattr(layer, "kernel", None) for layer in model.layers)
    first = next((k for k in kernels if k is not None and len(k.shape) == 4), None)
    kernel = None if first is None else np.asarray(first.value, np.float32)
    return {"maps": maps, "kernel": kernel}


def _worth_a_look(subject: Subject) -> Iterable[int]:
    """The surest right answer of some classes spread over all, and the surest mistakes."""
    chance, labels = subject.chance, subject.labels
    surest = np.argsort(-chance.max(axis=1), kind="stable")
    right = chance.argmax(axis=1)[surest] == labels[surest]
    wanted = np.unique(np.linspace(0, chance.shape[1] - 1, OCCLUDED).round().astype(int))
    chosen: list[int] = []
    for label in wanted:
        chosen += [int(i) for i in surest[right & (labels[surest] == label)][:1]]
    return chosen + [int(i) for i in surest[~right][:OCCLUDED]]


# the page


def _render(shown: Split, **context: Any) -> str:
    from markupsafe import Markup

    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            picture=lambda i: pictures.png_uri(shown.images[i]),
            overlay=lambda each: pictures.overlay(shown.images[each["image"]], each["map"]),
            tiles=lambda kernel: pictures.filter_tiles(kernel)[:FILTERS],
            curves=lambda *given: [Markup(svg) for svg in plots.learning_curves(*given)],
            reliability=lambda bins: Markup(plots.reliability(bins)),
            pareto=lambda *given: Markup(plots.pareto(*given)),
            plain=plain,
            **context,
        )
    )
