"""The checkpoints of a run: its whole training state, from which training resumes."""

import json
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fmnist import files
from fmnist.errors import RunError
from fmnist.files import load_arrays, read_json, save_arrays, sha256, write_json
from fmnist.runs.origin import require_origin, require_unchanged
from fmnist.runs.schemas import CHECKPOINT

if TYPE_CHECKING:
    from fmnist.runs.run import Run

SCHEMA = 1  # of the metadata and the manifest
KEPT = 2


class Checkpoints:
    """The folder `checkpoint` of a run: for each state a file of arrays and a manifest."""

    def __init__(self, run: "Run") -> None:
        self.run, self.folder = run, run.path / "checkpoint"

    def save(
        self, update: int, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]
    ) -> None:
        """Save the training state after `update` updates, and delete all but the newest two.

        The manifest, which holds the file's SHA-256, is written last. A file without one does not
        count as a checkpoint. Raises RunError if nothing can be written.
        """
        self.run.require_in_place()
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.folder}: could not be made ({error.strerror or error})"
            ) from error
        file = self.folder / f"{update:09}.safetensors"
        about = {"schema": SCHEMA, "update": update, "origin": self.run.origin} | dict(about)
        save_arrays(file, arrays, {"about": json.dumps(about)})
        write_json(file.with_suffix(".json"), {"schema": SCHEMA, "sha256": sha256(file)})
        for old in sorted(self.folder.glob("*.safetensors"))[:-KEPT]:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)

    def load(
        self,
        report: Callable[[str], object] = print,
        expected: Mapping[str, tuple[int, ...]] | None = None,
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """The newest complete checkpoint, as (arrays, about); None if there is none.

        `about` is that of `save`, with schema, update and origin. A checkpoint that is damaged or
        has other shapes than `expected` is skipped, and `report` gets a line about it. Raises
        RunError for one that another recipe or environment than the run's was trained by.
        """
        for path in sorted(self.folder.glob("*.json"), reverse=True):
            file = path.with_suffix(".safetensors")
            try:
                if sha256(file) != read_json(path).get("sha256"):
                    raise RunError(f"{file}: does not match its manifest")
                about = {"seconds": 0.0, "scoring_seconds": 0.0} | files.load_metadata(file)
                files.require(about, CHECKPOINT, f"{file}: metadata")
                require_origin(about, f"{file}: metadata")
                if f"{about['update']:09}" != path.stem:
                    raise RunError(f"{file}: says that it is of update {about['update']}")
            except (OSError, RunError) as error:
                report(f"checkpoint skipped: {error}")
                continue
            require_unchanged(self.run, about, "its checkpoint")
            try:
                return load_arrays(file, expected), about
            except RunError as error:
                report(f"checkpoint skipped: {error}")
        return None

    def drop(self) -> None:
        """Remove all of them, as of a finished run."""
        self.run.require_in_place()
        shutil.rmtree(self.folder, ignore_errors=True)
