"""What a sweep remembers: Optuna's study of its trials, in a file of its folder or any storage."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from fmnist.errors import RunError

JOURNAL = "journal.log"
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
REDUCTION = 2  # of the trials that reach a rung of successive halving every second goes on


optuna.logging.set_verbosity(optuna.logging.ERROR)


def open_study(
    folder: Path, storage: str, name: str, pruner: optuna.pruners.BasePruner
) -> optuna.Study:
    """The study of a name, made where there is none; `storage` is a URL, or empty for a file.

    Raises RunError where the storage cannot be opened, or does not know the folder's trials, and
    for Redis, whose snapshots Optuna unpickles.
    """
    if storage.startswith("redis"):
        raise RunError(
            f"{folder}: expected a storage without pickle, received {storage.split(':')[0]}"
        )
    try:
        study = _study(folder, storage, name, pruner)
        known = len(study.get_trials(deepcopy=False))
    except Exception as error:  # a storage's own errors have no common kind
        raise RunError(f"{folder}: its storage could not be opened ({reason(error)})") from error
    # A folder is made for a trial that the storage knows, and would be taken for another's.
    names = [p.name for p in folder.glob("trials/*") if p.name.isdecimal() and int(p.name) >= known]
    if names:
        raise RunError(
            f"{folder}: expected a storage that knows trial {min(names)}, found one of {known} "
            "trials; put the right one back (a relative path in a URL is from here)"
        )
    return study


def _study(
    folder: Path, storage: str, name: str, pruner: optuna.pruners.BasePruner
) -> optuna.Study:
    place: BaseStorage = (
        get_storage(storage)
        if storage
        else JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    )
    try:  # which writes nothing: another process may be at work
        return optuna.load_study(storage=place, study_name=name, pruner=pruner)
    except KeyError:
        return optuna.create_study(
            storage=place, study_name=name, pruner=pruner, direction="maximize"
        )


def row_of(trial: FrozenTrial, names: Iterable[str], run: Path) -> dict[str, Any]:
    """A trial as `Sweep.rows` has it: `names` are of the values searched, `run` is its folder."""
    steps = trial.intermediate_values
    last = steps[max(steps)] if steps else None
    return {
        "trial": trial.number,
        "state": STATES[trial.state],
        "val": trial.value if trial.state == TrialState.COMPLETE else last,
        "epochs": max(steps, default=0),
        "seconds": trial.user_attrs.get("seconds"),
        "values": {name: trial.params[name] for name in names if name in trial.params},
        "run": str(run),
        "reason": trial.user_attrs.get("reason"),
    }


def mend_journal(folder: Path) -> None:
    """Undo what a process left that was killed, or had no room, as it wrote a line.

    Only while the sweep is held.
    """
    (folder / f"{JOURNAL}.lock").unlink(missing_ok=True)
    with (folder / JOURNAL).open("rb+") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def successive_halving(epochs: int) -> optuna.pruners.BasePruner:
    """Stops what is behind at the same epoch (Li et al. 2020, asynchronous), first at a quarter."""
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=max(1, epochs // 4), reduction_factor=REDUCTION
    )


def reason(error: Exception) -> str:
    """An error's first line, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
