"""What a sweep remembers: Optuna's study of its trials, in a file of its folder or any storage."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from fmnist import files
from fmnist.errors import RunError

JOURNAL = "journal.log"
LOCKED_SECONDS = 60  # how long an SQLite file may be held by another process
REDUCTION = 2  # of the trials that reach a rung of successive halving every second goes on


optuna.logging.set_verbosity(optuna.logging.ERROR)


FORM = {
    "schema": int,
    "over": [str],
    "seed": int,
    "prune": bool,
    "data": str,
    "storage": str,
    "study": str,
    "backend": str,
    "log": [str],
}


def read_about(path: Path, schema: int) -> dict[str, Any]:
    """The content of `sweep.json`. Raises RunError for another form or schema."""
    about = {"log": []} | files.read_json(path)  # which older sweeps do not have
    files.require(about, FORM, path)
    if about["schema"] != schema:
        raise RunError(
            f"{path}: expected schema {schema}, found {about['schema']}; another version of fmnist "
            "made it"
        )
    return about


def trials_of(study: optuna.Study, folder: Path) -> list[FrozenTrial]:
    """A study's trials. Raises RunError where the storage cannot be read."""
    try:
        return study.get_trials(deepcopy=False)
    except (OSError, optuna.exceptions.OptunaError) as error:
        raise RunError(f"{folder}: its storage could not be read ({reason(error)})") from error


def open_study(
    folder: Path, storage: str, name: str, pruner: optuna.pruners.BasePruner, new: bool = False
) -> optuna.Study:
    """The study of a name, made where there is none; `storage` is a URL, or empty for a file.

    For a sweep that is not `new` no database is made: a stranger may have written its folder.
    Raises RunError where the storage cannot be opened, or does not know the folder's trials, and
    for Redis, whose snapshots Optuna unpickles.
    """
    if storage.startswith("redis"):
        raise RunError(
            f"{folder}: expected a storage without pickle, received {storage.split(':')[0]}"
        )
    if storage.startswith("sqlite") and not new:
        _require_database(folder, storage, name)
    try:
        study = _study(folder, storage, name, pruner, new)
        known = len(study.get_trials(deepcopy=False))
    except RunError:
        raise
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


def _require_database(folder: Path, url: str, name: str) -> None:
    """Raise RunError unless an SQLite file is there and holds the study of a name; makes nothing.

    It may have to be written: what a killed process left of its last change is undone.
    """
    path = url.partition("///")[2].partition("?")[0]
    try:
        database = sqlite3.connect(f"file:{quote(path)}?mode=rw", LOCKED_SECONDS, uri=True)
        with contextlib.closing(database):
            found = database.execute("SELECT 1 FROM studies WHERE study_name = ?", (name,))
            if not found.fetchone():
                raise _unknown(folder, path, "it knows others")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise _unknown(folder, path, error) from None
        raise RunError(
            f"{folder}: its storage {path} is held by another process since {LOCKED_SECONDS} s; "
            "go on when that has ended"
        ) from None
    except sqlite3.Error as error:
        raise _unknown(folder, path, error) from None


def _unknown(folder: Path, storage: str, why: object) -> RunError:
    return RunError(
        f"{folder}: expected a storage that knows its trials at {storage}, found none ({why}); put "
        "it back (a relative path in a URL is from here)"
    )


def _storage(folder: Path, url: str) -> BaseStorage | str:
    """Where a study is: a URL of Optuna's, or the journal in the sweep's folder."""
    if not url:
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    if url.startswith("sqlite"):  # another process may hold it for a while
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": LOCKED_SECONDS}})
    return get_storage(url)


def _study(
    folder: Path, storage: str, name: str, pruner: optuna.pruners.BasePruner, new: bool
) -> optuna.Study:
    place = _storage(folder, storage)
    try:  # which writes nothing: another process may be at work
        return optuna.load_study(storage=place, study_name=name, pruner=pruner)
    except KeyError:
        if not new:  # nor does a stranger's sweep put a study into a storage of one's own
            raise _unknown(folder, storage or JOURNAL, "it knows others") from None
        return optuna.create_study(
            storage=place, study_name=name, pruner=pruner, direction="maximize"
        )


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
    """The first line, or the kind, of an error or of the one from which it came at last."""
    while error.__cause__ and not isinstance(error, OSError):
        error = error.__cause__  # type: ignore[assignment]
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
