"""The card of an exported model: its scores, its intended use and its limits.

`card.json` for programs, `card.html` for people. Both say what the file scores as it lies there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist import files, system
from fmnist.data.fashion_mnist import FASHION_MNIST
from fmnist.errors import UsageError
from fmnist.exports import wants
from fmnist.exports.outcome import ALLOWED
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.text import VIEWS, plain
from fmnist.reports import plots
from fmnist.reports.templates import environment
from fmnist.runs.run import SCHEMA, Run, now
from fmnist.scoring.figures import Score, calibration_bins, expected_calibration_error
from fmnist.version import __version__

FILES = ("card.json", "card.html")
MARKS = {"card.json": '"calibrated_on": ', "card.html": "– model card</title>"}


def write(
    folder: Path,
    run: Run,
    path: Path,
    score: Score,
    logits: NDArray[Any],
    labels: NDArray[Any],
    *,
    form: str,
    storage: str,
    runtime: str,
    before: float,
    calibrated_on: str,
    temperature: float = 1.0,
    photos: str = "cut out",
    doubt: float | None = None,
    photo_score: Mapping[str, Any] | None = None,
    outlier: Mapping[str, Any] | None = None,
    latency: Mapping[str, Any] | None = None,
) -> None:
    """Write both cards of the file `path`, made from `run`, into `folder`.

    `score` is of the raw `logits` divided by the `temperature`, `before` the accuracy that the run
    itself has there; `photos` says what is done to photos for it. `doubt` is the probability below
    which an answer is not sure, `photo_score` how the photos were answered that set it. These,
    `outlier` and `latency` are as they stand in the card, None where there are none.
    """
    env = run.env
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "name": run.recipe.name,
        "format": form,
        "file": path.name,
        "sha256": files.sha256(path),
        "bytes": path.stat().st_size,
        "weights": files.sha256(run.weights_path),
        "classes": env["classes"],
        "shape": env["shape"],
        "photos": photos,
        **wants.signature(form, {**env, "photos": photos}),
        "names": wants.names(env),
        "storage": storage,
        "parameters": env["parameters"],
        "temperature": temperature,
        "calibrated_on": calibrated_on,
        "outlier": outlier,
        "doubt": doubt,
        "photo_score": photo_score,
        "recipe": run.recipe.to_json(),
        "teachers": [Path(t["run"]).name for t in env.get("teachers") or []],
        "data": {"name": env["data"]["name"], "hash": env["data"]["hash"]},
        "learnt_photos": _photos(env),
        "scores": {
            score.split: {
                "n": score.n,
                "correct": score.correct,
                "accuracy": score.accuracy,
                "accuracy_of_the_run": before,
                "interval": list(score.interval),
                "views": score.views,
                "expected_calibration_error": score.expected_calibration_error,
                "uncalibrated_error": expected_calibration_error(logits, labels),
                "times_opened": score.times_opened,
                "by_class": score.per_class,
                "runtime": runtime,
            }
        },
        "latency": latency,
        **_words(run, score, before),
        "licence": _licence(env),
        "created": now(),
        "fmnist": __version__,
        "commit": system.commit()["commit"],
    }
    files.write_json(folder / "card.json", values)
    text = _render(values, logits, labels)
    files.write_whole(folder / "card.html", lambda p: p.write_text(text, "utf-8", "replace"))


def require_own(folder: Path, names: Sequence[str], marks: Mapping[str, str] = MARKS) -> None:
    """Raise UsageError unless the files of these `names` in a folder are new, or an export's.

    A model has no mark of its own: the card beside it says that it is one.
    """
    for name in names:
        path = folder / name
        files.require_own(path, marks.get(name, ""))
        if path.exists() and not (folder / "card.json").exists():
            raise UsageError(f"{path}: expected an earlier export, found no card.json beside it")


def _words(run: Run, score: Score, before: float) -> dict[str, Any]:
    """What the model is for, and what it is not."""
    env, recipe = run.env, run.recipe
    (height, width, _), n = env["shape"], len(env["classes"])
    fashion = env["data"]["name"] == FASHION_MNIST
    weakest = min(score.per_class, key=lambda row: float(row["recall"]))
    kinds = "articles of clothing" if fashion else "the classes of its training data"
    limits = [
        f"It knows {n} classes and answers with one of them, whatever an image shows.",
        "Do not trust an answer below the outlier threshold. Some images of other things are "
        "above it.",
        f"The figures hold for images like those of {env['data']['name']}: grey, {height}×{width} "
        "pixels, one object each, prepared in the same way. Other photos may be harder.",
        f"It recognises {weakest['class']} worst: {weakest['recall']:.1%} of {weakest['n']:,} "
        "images.",
        "The probabilities assume that classes are as common as in the scored images.",
    ]
    limits += [
        f"It learnt {each['files']:,} photos too ({_kinds(each)}), on which it was not scored. "
        "Photos of other kinds, or taken in other ways, may be harder."
        for each in _photos(env)
    ]
    if before - score.accuracy > ALLOWED:
        limits.append(
            f"Its stored form costs {100 * (before - score.accuracy):.2f} points: the run itself "
            f"scores {before:.2%} on the same images."
        )
    if recipe.fit_on == "all" and score.split == "val":
        limits.append(
            "It was trained on the images that it was scored on, so its score is too high. Its "
            "run has no score on test."
        )
    elif recipe.fit_on == "all":
        limits.append(
            "It was trained on all training images, so only test images were left to score."
        )
    elif score.split == "val":
        limits.append(
            "It was chosen by the images that it was scored on, so its score is a little high."
        )
    evaluated = run.scores.get(score.split)
    if evaluated and score.views != recipe.views:
        more = evaluated["accuracy"] > score.accuracy
        why = ", more, since errors that differ from view to view average out" if more else ""
        limits.append(
            f"It answers by {VIEWS[score.views]}. The run that it was made from scored "
            f"{evaluated['accuracy']:.2%} on these images by the {VIEWS[recipe.views]}{why}."
        )
    if fashion:
        limits.append("An estimated 1.3 to 1.8 % of the training labels are wrong (fmnist audit).")
    return {
        "intended_use": f"To tell {kinds} apart: for teaching, for comparing methods, and for "
        "trying out how much a model of this size can do. Not for decisions about people.",
        "limits": limits,
    }


def _photos(env: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The photos that a run, or an ensemble's members, learnt."""
    keys = ("files", "images", "kinds", "sha256", "source")
    return [{key: each[key] for key in keys} for each in env.get("photos", [])]


def _kinds(photos: Mapping[str, Any]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in photos["kinds"].items())


def _licence(env: Mapping[str, Any]) -> str:
    said = "MIT, as far as the licence of its training data allows."
    if env["data"]["name"] == FASHION_MNIST:
        said = "MIT. Fashion-MNIST, on which it was trained, is © 2017 Zalando SE, MIT."
    for photos in _photos(env):
        said += f" Photos that it learnt: {photos['source'] or 'of an unknown licence'}."
    return said


def _render(values: Mapping[str, Any], logits: NDArray[Any], labels: NDArray[Any]) -> str:
    from markupsafe import Markup

    page = environment(Path(__file__).parent)
    page.filters["percent"] = lambda share, digits=2: f"{100 * share:.{digits}f}"
    ((split, score),) = values["scores"].items()
    bins = [
        calibration_bins(each, labels)
        for each in (logits, np.asarray(logits) / values["temperature"])
    ]
    recipe = Recipe.from_json(values["recipe"])
    return page.get_template("card.html.jinja").render(
        card=values,
        split=split,
        score=score,
        views=VIEWS[score["views"]],
        fields=[(name, plain(value), meaning) for name, value, _, meaning in recipe.describe()],
        plots=[Markup(plots.reliability(each)) for each in bins],
    )
