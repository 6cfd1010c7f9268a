"""The checkpoints of a run: its whole training state, from which training resumes."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fmnist import files
from fmnist.errors import RunError
from fmnist.files import load_arrays, read_json, save_arrays, sha256, write_json
from fmnist.runs.schemas import CHECKPOINT

SCHEMA = 1  # of the metadata and the manifest
KEPT = 2


class Checkpoints:
    """The folder `checkpoint` of a run: for each state a file of arrays and a manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self, update: int, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]
    ) -> None:
        """Save the training state after `update` updates, and delete all but the newest two.

        The manifest, which holds the file's SHA-256, is written last. A file without one does not
        count as a checkpoint. Raises RunError if nothing can be written.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.folder}: could not be made ({error.strerror or error})"
            ) from error
        file = self.folder / f"{update:09}.safetensors"
        about = {"schema": SCHEMA, "update": update} | dict(about)
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

        `about` is that of `save`, with schema and update. A checkpoint that is damaged or has other
        shapes than `expected` is skipped, and `report` gets a line about it.
        """
        for path in sorted(self.folder.glob("*.json"), reverse=True):
            file = path.with_suffix(".safetensors")
            try:
                if sha256(file) != read_json(path).get("sha256"):
                    raise RunError(f"{file}: does not match its manifest")
                about = {"seconds": 0.0, "scoring_seconds": 0.0} | files.load_metadata(file)
                files.require(about, CHECKPOINT, f"{file}: metadata")
                if f"{about['update']:09}" != path.stem:
                    raise RunError(f"{file}: says that it is of update {about['update']}")
                return load_arrays(file, expected), about
            except (OSError, RunError) as error:
                report(f"checkpoint skipped: {error}")
        return None

    def drop(self) -> None:
        """Remove all of them, as of a finished run."""
        shutil.rmtree(self.folder, ignore_errors=True)
