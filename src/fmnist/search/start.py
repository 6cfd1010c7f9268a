"""A sweep from its begin to its end, as Python's users ask for it."""

import os
from collections.abc import Callable, Iterable

from fmnist.data.find import named_place
from fmnist.recipes.recipe import Recipe
from fmnist.search.outcome import Rows
from fmnist.search.sweep import Sweep


def sweep(
    recipe: Recipe,
    over: Iterable[str],
    path: str | os.PathLike[str] | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    trials: int = 20,
    minutes: float = float("inf"),
    seed: int = 0,
    prune: bool = True,
    storage: str = "",
    log: Iterable[str] = (),
    show: Callable[[Rows], object] = lambda rows: None,
) -> Sweep:
    """Search for better values of a recipe's fields; val decides which are best.

    Args:
        recipe: the recipe to start from.
        over: what to search: "NAME=A/B/C", "NAME=LOW..HIGH" or "NAME=log:LOW..HIGH", each once.
        path: the folder to make; None makes up a name under `sweeps/`.
        data: where the data is, as for `load_data`. Each trial is a process that reads it anew.
        trials: how many are run in all. Equal values are not tried again.
        minutes: no new trial starts after these.
        seed: the seed of the proposals.
        prune: stop trials early that are behind others at the same epoch.
        storage: a storage URL of Optuna's; empty for a file in the folder.
        log: trackers that follow each trial, "tensorboard" or "mlflow".
        show: gets the trials' rows whenever they change.

    Returns the sweep: `best()`, `rows()`, `command_for(row)`; `Sweep(path).search(trials)` goes on
    with it, and `fmnist.sweep_page` writes its page.

    Raises UsageError for fields or values that cannot be searched, DataError for data that is not
    found, RunError for a folder that exists, FmnistError where every trial fails, and Interrupted
    after a stopping signal.
    """
    made = Sweep.create(
        path, recipe, over, data=named_place(data), storage=storage, seed=seed, prune=prune, log=log
    )
    made.search(trials, minutes, show)
    return made
