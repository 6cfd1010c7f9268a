"""Finds training labels that look wrong, and images that are nearly the same.

Each image of train and val gets probabilities from a model that was not trained on it: the images
are divided into folds, and each fold's model is trained on the other folds. An audit folder
holds `audit.json`, a run folder a fold under `folds/`, `labels.jsonl`, `duplicates.jsonl` and the
page `index.html`. The test split's labels are not audited, since that would be
scoring on it. Its images are compared to find duplicates. Nothing is relabelled or removed.
"""

import dataclasses
import hashlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist import files
from fmnist.audits.page import render
from fmnist.audits.rows import audit_duplicates, audit_labels, write_lines
from fmnist.data.splits import Data, Split
from fmnist.errors import RunError, UsageError
from fmnist.recipes.recipe import Recipe
from fmnist.runs import folders
from fmnist.runs.commands import command
from fmnist.runs.run import Run, now
from fmnist.runs.same_data import changes_of_data, require_same_data
from fmnist.scoring.figures import probabilities
from fmnist.signals import Interrupted
from fmnist.training.progress import Progress

SCHEMA = 1
FOLDS = 5
FOLD_SEED = 20210414  # the day the method was published; changing it changes every fold
MOST_FOLDS = 100
ENV = (
    *("backend", "commit", "device", "dirty", "fmnist", "parameters", "precision", "threads"),
    "versions",
)
SETTINGS = {
    "schema": int,
    "recipe": {},
    "folds": int,
    "data": {"name": str, "hash": str, "val_index_hash": str},
}


def fold_numbers(labels: NDArray[np.int32], folds: int) -> NDArray[np.int64]:
    """The fold of each image, 0 to folds - 1: (n,). Classes and folds are even to one image.

    By NumPy's frozen legacy stream, so that no version divides otherwise.
    """
    stream = np.random.RandomState(FOLD_SEED)
    drawn = [stream.permutation(np.flatnonzero(labels == k)) for k in np.unique(labels)]
    numbers = np.empty(len(labels), np.int64)
    numbers[np.concatenate(drawn)] = np.arange(len(labels)) % folds
    return numbers


def fold_data(data: Data, known: Split, held_out: NDArray[np.int64], name: str) -> Data:
    """The data set with the images `held_out` of `known` as its val and the others as its train.

    Its hash is another than the data set's, and so a fold's run is never scored on the usual val,
    which it has mostly been trained on.
    """
    index_hash = hashlib.sha256(held_out.astype("<i8").tobytes()).hexdigest()
    made = dataclasses.replace(
        data,
        name=f"{data.name}, {name}",
        hashes={**data.hashes, "held out": index_hash},
        val_indices=held_out,
        val_index_hash=index_hash,
    )
    rest = np.delete(np.arange(len(known)), held_out)
    train, val = (
        Split(known.images[rows], known.labels[rows], split, made.hash)
        for split, rows in (("train", rest), ("val", held_out))
    )
    return dataclasses.replace(made, train=train, val=val)


def check(recipe: Recipe, folds: int, n: int = MOST_FOLDS) -> None:
    """Raise UsageError for a recipe or a number of folds that cannot audit `n` images."""
    if recipe.fit_on != "train":
        raise UsageError(
            "audit: expected fit_on=train, received 'all'; each model must leave out its fold"
        )
    if not 2 <= folds <= min(n, MOST_FOLDS):
        raise UsageError(f"--folds: expected 2 to {min(n, MOST_FOLDS)}, received {folds}")


def audit(
    recipe: Recipe,
    data: Data,
    folder: str | os.PathLike[str] | None = None,
    *,
    folds: int = FOLDS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Audit a data set into a new folder; returns the content of `audit.json`, with "folder".

    Args:
        recipe: the recipe that trains each fold's model on the other folds.
        data: from `load_data`; the test images are compared, never scored.
        folder: the folder to make; None makes up a name under `audits/`.
        folds: the number of parts of the training images, each with equal shares of the classes.
        progress: shows the training.

    Raises UsageError for a recipe or a number of folds that cannot be used, RunError for a folder
    that exists, and all errors of `training.train`. `resume` continues an interrupted audit.
    """
    check(recipe, folds, len(data.train) + len(data.val))
    recipe.check_shape(data.shape, len(data.classes))
    settings = {
        "schema": SCHEMA,
        "created": now(),
        "command": sys.argv,
        "recipe": recipe.to_json(),
        "folds": folds,
        "data": data.record | {"n": len(data.train) + len(data.val)},
    }
    made = folders.make_folder(
        Path(folder) if folder is not None else None,
        "audits",
        recipe.name,
        _refusal,
        lambda folder: files.write_json(folder / "audit.json", settings),
    )
    return resume(made, data, progress=progress)


def refuse_existing(folder: Path) -> None:
    """Raise RunError for a folder that is there and not empty."""
    folders.refuse_existing(folder, _refusal)


def _refusal(folder: Path) -> str:
    return f"{folder}: exists already; choose another folder by --out, or continue it by --resume"


def read_settings(folder: Path) -> dict[str, Any]:
    """`audit.json` of an audit folder. Raises RunError for another folder."""
    if not (folder / "audit.json").is_file():
        raise RunError(f"{folder}: expected an audit folder (with an audit.json), found none")
    settings = files.read_json(folder / "audit.json")
    files.require(settings, SETTINGS, folder / "audit.json")
    for entry in (*folder.glob("*"), *folder.glob("folds/*")):
        if entry.is_symlink():
            raise RunError(f"{entry}: expected no link in an audit folder")
    return settings


def resume(folder: Path, data: Data, *, progress: Progress | None = None) -> dict[str, Any]:
    """Continue an audit: finished folds are kept, an interrupted fold is resumed.

    All else is as in `audit`. A finished audit gets its findings written again. Raises RunError for
    other data, and for an audit that another process is making.
    """
    settings = read_settings(folder)
    require_same_data(folder, settings["data"], data)
    with files.held(folder / "lock", f"{folder}: another process is making this audit"):
        known = data.fitting("all")
        chance, runs = out_of_sample(folder, settings, data, known, progress or Progress())
        labels, suspects = audit_labels(chance, known.labels, data)
        begin = time.perf_counter()
        repeats, pairs = audit_duplicates(known, data)
        env = runs[0].env
        settings |= {
            "recipe": Recipe.from_json(settings["recipe"]).to_json(),
            "env": {key: env.get(key) for key in ENV},
            "labels": labels,
            "duplicates": repeats,
            "finished": now(),
            "seconds": {
                "training": sum(lines[-1]["seconds"] for run in runs if (lines := run.metrics())),
                "duplicates": round(time.perf_counter() - begin, 3),
            },
        }
        write_lines(folder / "labels.jsonl", suspects)
        write_lines(folder / "duplicates.jsonl", pairs)
        page = render(settings, suspects, pairs, known, data)
        files.write_whole(folder / "index.html", lambda p: p.write_text(page, encoding="utf-8"))
        files.write_json(folder / "audit.json", settings)  # last: it says that all is there
    return {"folder": str(folder)} | files.read_json(folder / "audit.json")


def out_of_sample(
    folder: Path, settings: dict[str, Any], data: Data, known: Split, progress: Progress
) -> tuple[NDArray[np.float64], list[Run]]:
    """Probabilities (n, classes) of each image by the model that did not see it, and the runs."""
    recipe, folds = Recipe.from_json(settings["recipe"]), settings["folds"]
    check(recipe, folds, len(known))
    numbers = fold_numbers(known.labels, folds)
    logits, runs = np.empty((len(known), len(data.classes)), np.float32), []
    for k in range(folds):
        held_out = np.flatnonzero(numbers == k)
        part = fold_data(data, known, held_out, f"fold {k + 1} of {folds}")
        run = train_fold(folder, k, recipe, part, progress)
        logits[held_out], labels = run.load_logits("val")
        if not np.array_equal(labels, part.val.labels):
            raise RunError(f"{run.path}: its logits are of other images than those of its fold")
        runs.append(run)
    return probabilities(logits), runs


def train_fold(folder: Path, k: int, recipe: Recipe, part: Data, progress: Progress) -> Run:
    """The finished run of a fold: taken as it is, gone on with, or trained."""
    from fmnist.training import train as training

    path = folder / "folds" / str(k + 1)
    if not (path / "recipe.json").exists():
        shutil.rmtree(path, ignore_errors=True)  # killed before it was a run
    else:
        run = Run(path)
        if run.recipe != recipe or changes_of_data(run.env["data"], part):
            raise RunError(f"{path}: is a run of another recipe or of other data than the audit's")
        if run.finished:
            return run
    try:
        if path.exists():
            return training.resume(run, part, progress=progress)
        return training.train(recipe, part, path, progress=progress)
    except Interrupted as stop:
        how = command("audit", "--resume", folder)
        raise Interrupted(stop.exit_code - 128, f"stopped; go on by: {how}") from None
