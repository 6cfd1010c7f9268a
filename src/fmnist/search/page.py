"""The page of a sweep: its trials' curves, values against accuracy, what matters, and the best.

One file that needs no other, in the report's style. Nothing is scored for it.
"""

import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from fmnist import files
from fmnist.errors import RunError
from fmnist.recipes.text import plain, short
from fmnist.reports import plots, templates
from fmnist.scoring.compare import compare
from fmnist.search.outcome import Rows, ranked
from fmnist.search.repeats import is_repeated
from fmnist.search.space import own_values
from fmnist.search.study import trials_of
from fmnist.search.sweep import Sweep

MARK = "– fmnist sweep</title>"
TOP = 0.25  # the share of trials in which importance looks for what they have in common
LEAST = 12  # complete trials from which on importance is shown: three of them are the top


def sweep_page(sweep: Sweep, out: str | os.PathLike[str]) -> None:
    """Write the page of a sweep's trials so far into a file, new or an earlier page.

    Raises RunError where the file or the storage fails, UsageError for another file in its place.
    """
    from markupsafe import Markup

    rows, best, own = ranked(sweep.rows()), sweep.best(), own_row(sweep)
    roles = {row["trial"]: _role(row, best, own) for row in rows}
    page = templates.environment(Path(__file__).parent)
    text = page.get_template("sweep.html.jinja").render(
        sweep=sweep,
        rows=rows,
        roles=roles,
        best=best,
        own=own,
        complete=sum(row["state"] == "complete" for row in rows),
        curves=Markup(plots.trial_curves(_curves(sweep, roles))),
        fields=[(name, Markup(_values(sweep, name, rows, roles))) for name in sweep.space],
        importance=importance(sweep),
        least=LEAST,
        top=TOP,
        verdict=verdict(own, best),
        command=sweep.command_for(best) if best else "",
        plain=plain,
        short=short,
    )
    files.write_own(
        Path(out), MARK, lambda p: p.write_text(text, encoding="utf-8", errors="replace")
    )


def own_row(sweep: Sweep) -> dict[str, Any] | None:
    """The row of the complete trial with the recipe's own values; None where there is none."""
    own = own_values(sweep.space, sweep.recipe)
    rows = [r for r in sweep.rows() if r["state"] == "complete" and r["values"] == own]
    return rows[0] if rows else None


def importance(sweep: Sweep) -> dict[str, float]:
    """Each field's share in what sets the best quarter of the complete trials apart, largest first.

    By PED-ANOVA (Watanabe, Bansal & Hutter 2023). The shares sum to 1. Empty for fewer than 12
    trials, for a single field, and where nothing sets the best apart.
    """
    trials = [
        trial
        for trial in trials_of(sweep.study, sweep.path)
        if trial.state == TrialState.COMPLETE
        and not is_repeated(trial)
        and trial.params.keys() == sweep.space.keys()
    ]
    if len(trials) < LEAST or len(sweep.space) < 2:
        return {}
    alone = optuna.create_study(direction="maximize")  # in memory, without what was answered twice
    alone.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = get_param_importances(
            alone, evaluator=PedAnovaImportanceEvaluator(target_quantile=TOP), normalize=False
        )
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total > 0 else {}


def verdict(own: Mapping[str, Any] | None, best: Mapping[str, Any] | None) -> str:
    """How the best trial does against the recipe's own values, image by image on val."""
    if best is None:
        return "No trial was finished."
    if own is None:
        return "No finished trial has the recipe's own values, so the best is compared with none."
    if own["trial"] == best["trial"]:
        return "No trial did better than the recipe's own values."
    try:
        (pair,) = compare({"the recipe's own": own["run"], f"trial {best['trial']}": best["run"]})
    except RunError as error:
        return f"The best could not be compared with the recipe's own values: {error}"
    return str(pair)[:1].upper() + str(pair)[1:]


def _role(
    row: Mapping[str, Any], best: Mapping[str, Any] | None, own: Mapping[str, Any] | None
) -> str:
    """A trial's place in the plots; see `plots.trial_curves`."""
    if best and row["trial"] == best["trial"]:
        return "best"
    if own and row["trial"] == own["trial"]:
        return "own"
    return "complete" if row["state"] == "complete" else "behind"


def _curves(sweep: Sweep, roles: Mapping[int, str]) -> list[dict[str, Any]]:
    """The accuracy on val after each epoch of each trial."""
    curves = []
    for trial in trials_of(sweep.study, sweep.path):
        steps = sorted(trial.intermediate_values.items())
        points = [(epoch, value) for epoch, value in steps if math.isfinite(value)]
        if points and trial.number in roles:
            curves.append({"role": roles[trial.number], "points": points})
    return curves


def _values(sweep: Sweep, name: str, rows: Rows, roles: Mapping[int, str]) -> str:
    """The plot of a field's values; values that are not of the search are left out."""
    kind: Any = sweep.space[name]
    choices: Any = kind.choices if isinstance(kind, CategoricalDistribution) else ()

    def belongs(value: Any) -> bool:
        return value in choices if choices else kind.low <= value <= kind.high

    points = [
        {"value": row["values"][name], "accuracy": row["val"], "role": roles[row["trial"]]}
        for row in rows
        if name in row["values"] and belongs(row["values"][name])
        if row["val"] is not None and math.isfinite(row["val"])
    ]
    return plots.trial_values(name, points, choices, getattr(kind, "log", False))
