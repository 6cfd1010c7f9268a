"""Verifies a run: scores its weights again and compares every answer with its record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fmnist import system
from fmnist.data.splits import Data
from fmnist.engine import backend
from fmnist.errors import RunError
from fmnist.recipes.shipped import RECIPES, changes_of
from fmnist.runs.ledger import VERIFICATION
from fmnist.runs.origin import require_unchanged
from fmnist.runs.run import Run, find_run
from fmnist.runs.same_data import changes_of_data, require_same_data
from fmnist.scoring import evaluate as evaluation

# Share of answers that may change where the machine is another: products in bfloat16 round
# differently from processor to processor.
TOLERANCE = 0.002


@dataclass(frozen=True)
class Check:
    """One split's score, claimed and found.

    `changed` counts the images whose answer differs from the saved logits. Without saved logits (a
    record leaves them out) it is the smallest number that explains both confusion matrices, and
    `exact` is False.
    """

    split: str
    n: int
    claimed: int
    correct: int
    changed: int
    exact: bool
    allowed: int

    @property
    def passed(self) -> bool:
        """Whether at most `allowed` answers changed, and the count of right ones by no more."""
        return max(self.changed, abs(self.correct - self.claimed)) <= self.allowed


@dataclass(frozen=True)
class Verification:
    """The checks of a run's claims, and what has changed: code, data, recipe, environment."""

    run: str
    same_machine: bool
    differences: dict[str, list[str]]
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every claim holds."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "run": self.run,
            "passed": self.passed,
            "same_machine": self.same_machine,
            "differences": self.differences,
            "checks": [vars(check) | {"passed": check.passed} for check in self.checks],
        }


def differences(run: Run, data: Data) -> dict[str, list[str]]:
    """Changes since the run was made, under "code", "data", "recipe" and "environment"."""
    from fmnist.version import __version__

    env = run.env
    code, here = [], system.commit()
    if (then := env.get("fmnist")) and then != __version__:
        code.append(f"fmnist {then}, now {__version__}")
    if env.get("commit") != here["commit"] or env.get("dirty") or here["dirty"]:
        code.append(f"commit {_commit(env)}, now {_commit(here)}")
    recipe = run.recipe
    shipped = (
        {n: v for n, v, _, _ in RECIPES[recipe.name]().describe()}
        if (recipe.name in RECIPES)
        else {}
    )
    versions, now = env["versions"], backend.versions()
    environment = [
        f"{name} {versions.get(name, 'none')}, now {now.get(name, 'none')}"
        for name in sorted({*versions, *now})
        if versions.get(name) != now.get(name)
    ]
    environment += [
        f"{name} {env[name]}, now {value}"
        for name, value in (("backend", backend.name()), ("device", backend.device()))
        if env[name] != value
    ]
    return {
        "code": code,
        "data": changes_of_data(env["data"], data),
        "recipe": [
            f"{k} {v}, shipped {shipped.get(k, 'none')}"
            for k, v in changes_of(recipe).items()
            if k not in ("seed", "fit_on")
        ],
        "environment": environment,
    }


def _commit(env: Mapping[str, Any]) -> str:
    return (env.get("commit") or "unknown")[:7] + (" with changes" if env.get("dirty") else "")


def verify(run: Run | str, data: Data) -> Verification:
    """Score a finished run again on every split that it has a score for, and compare.

    The network is built anew from the recipe. On the same machine (device, engine, versions) every
    answer must be what it was; on another, or in a process that computes with another number of
    threads already, 0.2 % of them may change. Nothing in the run folder is
    written. Scoring test is noted in the ledger as a verification.

    Raises RunError for a run without weights or scores, for a recipe or an environment that has
    changed since, and for other data or another validation split, since the scores are then not
    comparable.
    """
    run = find_run(run)
    require_unchanged(run, run.about_weights(), "its weights")
    claims = run.scores
    if not claims:
        raise RunError(f"{run.path}: expected a score to verify, found none; use fmnist evaluate")
    env = run.env
    require_same_data(run.path, env["data"], data)
    found = differences(run, data)
    as_many_threads = backend.use_threads(env["threads"])
    if not as_many_threads:
        found["environment"].append(f"threads {env['threads']}, now {backend.threads()}")
    same = (
        as_many_threads
        and env["backend"] == backend.name()
        and env["device"] == backend.device()
        and all(
            env["versions"].get(name) == version for name, version in backend.versions().items()
        )
    )
    result = Verification(str(run.path), same, found)
    for split, claim in claims.items():
        score, logits, labels = evaluation.score(run, data.test if split == "test" else data.val)
        evaluation.note(run, score, VERIFICATION)
        if score.n != claim["n"] or [sum(row) for row in score.confusion] != [
            sum(row) for row in claim["confusion"]
        ]:
            raise RunError(f"{run.path}: claims a score of {claim['n']} other images on {split}")
        exact = run.has_logits(split)
        if exact:
            kept, kept_labels = run.load_logits(split)
            if not np.array_equal(kept_labels, labels):
                raise RunError(f"{run.path}: its logits are of other images than {split}")
            changed = int((kept.argmax(axis=1) != logits.argmax(axis=1)).sum())
        else:
            moved = np.abs(np.array(score.confusion) - np.array(claim["confusion"]))
            changed = int(moved.sum()) // 2
        result.checks.append(
            Check(
                split,
                score.n,
                claim["correct"],
                score.correct,
                changed,
                exact,
                0 if same else int(TOLERANCE * score.n),
            )
        )
    return result
