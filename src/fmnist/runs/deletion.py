"""Deleting a run, unless it is evidence for a score."""

import os
import shutil
from pathlib import Path

from fmnist.errors import RunError
from fmnist.files import read_lines, sha256
from fmnist.runs.run import Run


def record_of(run: Run, records: Path = Path("records")) -> Path | None:
    """The record that a run is, or that names its weights; None if there is none."""
    if (run.path / "results.jsonl").exists():
        return run.path / "results.jsonl"
    weights = sha256(run.weights_path) if run.finished else None
    for path in sorted(records.glob("*/results.jsonl")) if weights else []:
        if any(line.get("weights_sha256") == weights for line in read_lines(path)):
            return path
    return None


def require_deletable(run: Run, force: bool = False) -> None:
    """Raise RunError where a run is evidence, or a link; with `force` the ledger may name it."""
    if run.path.is_symlink():
        raise RunError(f"{run.path}: expected a run folder, found a link; nothing was deleted")
    if record := record_of(run):
        raise RunError(f"{run.path}: is evidence for a score in {record}; nothing was deleted")
    weights = sha256(run.weights_path) if run.finished else None
    if not force and run.ledger.names(run.name, weights):
        raise RunError(
            f"{run.path}: is evidence for a score in {run.ledger.path}; nothing was deleted; "
            "--force deletes the run and leaves the ledger as it is"
        )


def delete(run: Run, force: bool = False) -> None:
    """Delete the run folder. Raises RunError as `require_deletable`, or if it is in use."""
    with run.locked():
        require_deletable(run, force)  # now that no training can finish meanwhile
        folder = run.path.resolve()
        hidden = folder.with_name(f".{folder.name}.deleted-{os.getpid()}")
        try:
            folder.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise RunError(f"{run.path}: could not be deleted ({error.strerror})") from error
