"""Ensembles: finished runs whose logits are averaged, as a run of its own.

Its folder holds all members' weights and a recipe whose model is their weighted sum. So an ensemble
works wherever a run does: evaluate, verify, compare, export, a student's --teacher.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist import files
from fmnist.engine import networks
from fmnist.errors import RunError, UsageError
from fmnist.recipes.networks.ensemble import LARGEST_WEIGHT, Ensemble
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.text import VIEWS
from fmnist.runs.origin import origin_of
from fmnist.runs.run import SCHEMA, Run, find_run, now
from fmnist.scoring.figures import probabilities
from fmnist.training.environment import of_ensemble


def fit_weights(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Each member's weight, at least 0, in the sum of logits, for the least cross-entropy.

    logits: (members, n, classes); labels: (n,); returns (members,). The problem is convex. The sum
    of the weights is free, so it corrects members that are under-confident, as after label
    smoothing, or over-confident. A mean of probabilities would follow the most confident member.
    """
    from scipy.optimize import minimize

    every, logits = np.arange(len(labels)), logits.astype(np.float64)

    def entropy(weights: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        chance = probabilities(np.tensordot(weights, logits, 1))
        loss = -np.log(np.maximum(chance[every, labels], 1e-300)).mean()
        chance[every, labels] -= 1
        return float(loss), np.tensordot(logits, chance, ([1, 2], [0, 1])) / len(labels)

    start = np.full(len(logits), 1 / len(logits))
    bounds = [(0, LARGEST_WEIGHT)] * len(logits)
    found = minimize(entropy, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return np.asarray(found.x, np.float64)


def ensemble(
    runs: Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str] | None = None,
    *,
    equal: bool = False,
) -> Run:
    """A new run that averages finished runs; `fmnist.evaluate` scores it, as any run.

    Args:
        runs: two or more, trained on the same images of the same data: each a `Run`, its folder or
            its name.
        path: the folder to make; None makes up a name under `runs/`.
        equal: take the plain mean of the logits. Else the weights are fitted on the members' saved
            logits of val. Members that were trained on val always get the plain mean.

    Raises RunError for a member without weights or logits, UsageError for members that cannot
    be combined, RunError for a folder that exists.
    """
    members = [find_run(run) for run in runs]
    for run in members:
        run.require_weights()
    recipes = [run.recipe.changed(precision=run.env["precision"]) for run in members]
    envs = [run.env for run in members]
    hashes = [files.sha256(run.weights_path) for run in members]
    if len(set(hashes)) < max(len(members), 2):
        raise UsageError("ensemble: expected two or more runs of different weights")
    for run, env, recipe in zip(members, envs, recipes, strict=True):
        if recipe.model == "ensemble":
            raise UsageError(
                f"{run.path}: expected a single network, received an ensemble; name its members"
            )
        run.require_data_of(members[0])
        for what in ("shape", "classes", "mean", "deviation"):
            if env[what] != envs[0][what]:
                raise UsageError(
                    f"{run.path}: expected a run on the same images as {members[0].path}"
                )
    fit_on = recipes[0].fit_on
    if equal or fit_on == "all":
        weights = np.full(len(members), 1 / len(members))
    else:
        logits, labels = zip(*(run.load_logits("val") for run in members), strict=True)
        if any(not np.array_equal(each, labels[0]) for each in labels):
            raise UsageError("ensemble: expected runs with the same validation images")
        weights = fit_weights(np.stack(logits), labels[0])
    recipe = Recipe(
        name="ensemble",
        model="ensemble",
        fit_on=fit_on,
        precision=recipes[0].precision,
        views=max((r.views for r in recipes), key=list(VIEWS).index),
        options=Ensemble(tuple(recipes), tuple(weights.tolist())),
    )
    arrays: dict[str, NDArray[Any]] = {}
    for i, run in enumerate(members):
        arrays |= {f"member_{i}/{name}": array for name, array in run.load_weights().items()}
    model = networks.build(recipe, tuple(envs[0]["shape"]), len(envs[0]["classes"]))
    if {v.path: tuple(v.shape) for v in model.weights} != {k: a.shape for k, a in arrays.items()}:
        raise RunError("ensemble: expected weights that match the members' recipes, found others")
    env = of_ensemble(members, hashes, model.count_params())
    return _write(members, recipe, env, arrays, path)


def _write(
    members: Sequence[Run],
    recipe: Recipe,
    env: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    path: str | os.PathLike[str] | None,
) -> Run:
    """The run folder, which is a run once it is whole: no `--resume` could finish half of it."""
    last = (lines[-1] for run in members if (lines := run.metrics()))
    seconds = round(sum(line["seconds"] for line in last), 3)
    about = {key: env[key] for key in ("mean", "deviation", "shape", "classes")}
    about |= {"schema": SCHEMA, "form": "ensemble", "origin": origin_of(recipe.to_json(), env)}

    def fill(folder: Path) -> None:
        line = {"finished": now(), "update": 0, "seconds": seconds}
        files.append_line(folder / "metrics.jsonl", line)
        files.save_arrays(folder / "weights.safetensors", arrays, {"about": json.dumps(about)})

    return Run.create(path, recipe, env, fill)
