"""Deleting a run, unless it is evidence for a score."""

import os
import shutil
from pathlib import Path

from fmnist.errors import RunError
from fmnist.files import read_lines, sha256
from fmnist.runs.run import Run


def named_by(run: Run, records: Path = Path("records")) -> Path | None:
    """The ledger or record that names a run or its weights; None if there is none."""
    if (run.path / "results.jsonl").exists():  # it is a record itself
        return run.path / "results.jsonl"
    weights = sha256(run.weights_path) if run.finished else None
    if run.ledger.names(run.name, weights):
        return run.ledger.path
    for path in sorted(records.glob("*/results.jsonl")) if weights else []:
        if any(line.get("weights_sha256") == weights for line in read_lines(path)):
            return path
    return None


def require_deletable(run: Run) -> None:
    """Raise RunError where a run is evidence, or a link."""
    if run.path.is_symlink():
        raise RunError(f"{run.path}: expected a run folder, found a link; nothing was deleted")
    named = named_by(run)
    if named:
        raise RunError(f"{run.path}: is evidence for a score in {named}; nothing was deleted")


def delete(run: Run) -> None:
    """Delete the run folder. Raises RunError if it is evidence for a score, or in use."""
    with run.locked():
        require_deletable(run)  # now that no training can finish meanwhile
        folder = run.path.resolve()
        hidden = folder.with_name(f".{folder.name}.deleted-{os.getpid()}")
        try:
            folder.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise RunError(f"{run.path}: could not be deleted ({error.strerror})") from error
