"""What a report says of a run, as plain values for the template."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist import files
from fmnist.errors import RunError
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import RECIPES, changes_of
from fmnist.recipes.text import VIEWS, plain
from fmnist.runs.commands import command
from fmnist.runs.ledger import not_counted
from fmnist.runs.reproduce import training_command
from fmnist.runs.run import Run
from fmnist.scoring.compare import Subject, compare, correction
from fmnist.scoring.figures import Score, calibration_bins, score_logits

PICTURES = 12  # most confident mistakes, and least certain images
COMPACT_PICTURES = 6  # of each run, where there are several
CONFUSIONS = 6  # pairs of classes that are named


# figures


def describe_run(subject: Subject, split: str, compact: bool = False) -> dict[str, Any]:
    """All that is said about a run, from its folder: score, curves, calibration, mistakes, recipe.

    Raises RunError where score.json claims another score than the logits give.
    """
    run, logits, labels = subject.runs[0], subject.logits[0], subject.labels
    env, recipe = run.env, run.recipe
    score = score_logits(
        logits,
        labels,
        tuple(env["classes"]),
        split,
        views=recipe.views,
        times_opened=run.times_opened(),
    )
    claimed = run.scores.get(split, {}).get("correct", score.correct)
    if claimed != score.correct:
        raise RunError(
            f"{run.path}: score.json claims {claimed:,} right on {split}, its logits give "
            f"{score.correct:,}; {command('verify', run.path)} says which holds"
        )
    chance = subject.chance
    confidence, right = chance.max(axis=1), logits.argmax(axis=1) == labels
    surest, doubtful = np.argsort(-confidence, kind="stable"), np.argsort(confidence, kind="stable")
    count = COMPACT_PICTURES if compact else PICTURES

    def tell(indices: NDArray[Any]) -> list[dict[str, Any]]:
        return [answer_of(subject, int(i)) for i in indices]

    return {
        "name": run.name,
        "score": score,
        "views": VIEWS[recipe.views],
        "not_counted": not_counted(run.scorings()),
        "cost": subject.describe(),
        "peak_memory": _peak_memory(run),
        "epochs": _epochs(run),
        "train_loss": _train_loss(run),
        "confusion": _confusion(score),
        "confusions": _confusions(score),
        "bins": calibration_bins(logits, labels),
        "confidence": confidence.mean(),
        "mistakes": tell(surest[~right[surest]][:count]),
        "doubtful": tell(doubtful[:count]),
        "recipe": recipe,
        "changes": _changes(recipe),
        "env": _environment(env),
        "fields": recipe.describe(),
        "command": training_command(run, portable=True),
    }


def answer_of(subject: Subject, i: int) -> dict[str, Any]:
    """What is said of an image, and what its label is."""
    classes, chance = subject.runs[0].env["classes"], subject.chance[i]
    predicted, label = int(chance.argmax()), int(subject.labels[i])
    return {
        "image": i,
        "right": predicted == label,
        "predicted": classes[predicted],
        "probability": float(chance[predicted]),
        "label": classes[label],
        "of_label": float(chance[label]),
    }


def _epochs(run: Run) -> list[dict[str, Any]]:
    """The learning curve's lines, with nothing in them that cannot be drawn."""
    lines = [line for line in run.metrics() if "epoch" in line]
    for line in lines:
        if not 0 < line["epoch"] <= 100_000:
            raise RunError(f"{run.path}: metrics.jsonl: expected 1 to 100,000 epochs")
        for key in ("loss", "accuracy", "val_loss", "val_accuracy", "seconds"):
            files.require(line.get(key, 0), float, f"{run.path}: metrics.jsonl: {key}")
    return lines


def _train_loss(run: Run) -> list[str]:
    """What makes the loss of train another quantity than that of val, in words."""
    recipe, words = run.recipe, []
    if recipe.label_smoothing:
        words.append(f"labels that are smoothed by {recipe.label_smoothing:g}")
    if run.env.get("photos"):
        words.append("photos, of which several classes may be right, or none")
    if run.env.get("teachers") and recipe.distillation:
        words.append(f"a teacher's answers, which have {recipe.distillation:.0%} of the weight")
    return words


def _peak_memory(run: Run) -> int | None:
    peaks = [line.get("peak_memory") for line in run.metrics()]
    return max((p for p in peaks if type(p) is int), default=None)


def _confusion(score: Score) -> list[list[dict[str, Any]]]:
    """Rows of cells: count, share of the row, and how deep a colour shows that share."""
    counts = np.array(score.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        # The root, so that mistakes of a few per cent can be told apart.
        [
            {"n": int(n), "share": float(share), "right": i == j, "strength": float(share**0.5)}
            for j, (n, share) in enumerate(zip(*row, strict=True))
        ]
        for i, row in enumerate(zip(counts, shares, strict=True))
    ]


def _confusions(score: Score) -> list[dict[str, Any]]:
    """The pairs of classes that are taken for each other most, both ways together."""
    names, counts = [row["class"] for row in score.per_class], score.confusion
    pairs = [
        {
            "first": names[i],
            "second": names[j],
            "there": counts[i][j],
            "back": counts[j][i],
            "n": counts[i][j] + counts[j][i],
        }
        for i in range(len(names))
        for j in range(i)
        if counts[i][j] + counts[j][i]
    ]
    return sorted(pairs, key=lambda pair: -pair["n"])[:CONFUSIONS]


def _changes(recipe: Recipe) -> list[tuple[str, str, str]]:
    """(field, value, the shipped recipe's value) of what differs."""
    changes = changes_of(recipe)
    if not changes:
        return []
    shipped = {name: plain(value) for name, value, _, _ in RECIPES[recipe.name]().describe()}
    return [(name, plain(value), shipped.get(name, "–")) for name, value in changes.items()]


def _environment(env: Mapping[str, Any]) -> list[tuple[str, str]]:
    commit = str(env.get("commit") or "unknown") + (" with changes" if env.get("dirty") else "")
    data = env["data"]
    rows = [
        ("made", env.get("created", "unknown")),
        ("device", env["device"]),
        ("precision", env["precision"]),
        ("micro-batch", f"{env['micro_batch']:,} images"),
        ("engine", env["backend"]),
        ("fmnist", env.get("fmnist", "unknown")),
        ("commit", commit),
        ("data", f"{data['name']}, {data['n']:,} images, sha256 {data['hash'][:16]}"),
    ]
    rows += [
        (
            "photos",
            f"{each['files']:,}, with which {each['images']:,} images were made, "
            f"sha256 {each['sha256'][:16]}",
        )
        for each in env.get("photos", [])
    ]
    rows += [(name, version) for name, version in env["versions"].items()]
    rows += [
        (f"{key[:-1]} {Path(each['run']).name}", each["weights"][:16])
        for key in ("teachers", "members")
        for each in env.get(key, [])
    ]
    return [(str(name), str(value)) for name, value in rows]


def describe_comparison(subjects: Sequence[Subject]) -> dict[str, Any]:
    """What `fmnist compare` says about runs, with each class' recall side by side."""
    pairs = compare(subjects)
    classes = [
        {
            "class": row["class"],
            "n": row["n"],
            "recalls": [row["first"], *(pair.per_class[i]["second"] for pair in pairs)],
        }
        for i, row in enumerate(pairs[0].per_class)
    ]
    return {
        "sentence": " ".join(map(str, pairs)),
        "correction": correction(pairs),
        "pairs": pairs,
        "classes": classes,
        "subjects": [subject.describe() for subject in subjects],
    }
