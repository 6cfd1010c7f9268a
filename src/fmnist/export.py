"""A run's weights in a form to share: smaller, in parts of a size, scored in that form.

What is written is a run folder as well: `fmnist evaluate` and `fmnist verify` take it.
"""

import hashlib
import math
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fmnist import backend, evaluation, files, runs
from fmnist.data import Data
from fmnist.errors import FmnistError, UsageError

Storage = Literal["float32", "float16", "int8"]
STORAGES = ("float32", "float16", "int8")
ALLOWED = 0.005  # share of the split's images by which an export may score less than the run


@dataclass(frozen=True)
class Export:
    """An exported run: where, how large, and what it scores as it lies there.

    `size` is in bytes, of all parts. `accuracy` and `before`, the run's own, are of the same
    `split` and `n` images; `changed` answers differ, `largest_difference` is between logits.
    """

    folder: str
    storage: str
    size: int
    parts: list[str]
    split: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    before: float
    changed: int
    largest_difference: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def export(
    run: runs.Run | str, data: Data, *, storage: Storage = "float16",
    out: Path | None = None, part_size: int | None = None,
) -> Export:  # fmt: skip
    """Write a finished run's weights as `storage` into a new folder and score them there.

    Args:
        run: has a score of test or of val; the same split is scored again, test preferred and
            then noted in the ledger beside the new folder.
        storage: float32 or float16, or int8: a whole number from -127 to 127 for each value of a
            kernel, times a float32 for each of its output channels; other weights stay float32.
        out: the new folder; by default `exports/NAME-STORAGE`.
        part_size: bytes; a larger `weights.safetensors` is cut into parts `.000`, `.001`, … whose
            sizes and SHA-256 stand in `weights.json`. The system's `cat` joins them.

    Raises RunError for a run without weights, score or logits of it, UsageError for a folder that
    is there, FmnistError where accuracy falls by more than 0.5 points or a weight does not fit
    float16; no folder is left then.
    """
    run = runs.Run(run)
    if storage not in STORAGES:
        raise UsageError(f"storage: expected one of {', '.join(STORAGES)}, received {storage!r}")
    least = math.ceil(run.weights_path.stat().st_size / 1000) if run.finished else 0
    if part_size is not None and part_size < least:
        raise UsageError(
            f"part size: expected at least {least:,} bytes, for no more than 1,000 parts, "
            f"received {part_size:,}"
        )
    out = Path("exports") / f"{run.name}-{storage}" if out is None else out
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another folder by --out")
    model, about = evaluation.load_model(run)
    arrays = {variable.path: backend.view(variable) for variable in model.variables}
    split = "test" if run.has_logits("test") else "val"
    before, labels = run.load_logits(split)
    hidden = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        made = _copy(run, hidden)
        form = f"{str(about.get('form')).partition(',')[0]}, {storage}"
        made.save_weights(_store(arrays, storage), about | {"form": form, "storage": storage})
        score, logits, scored = evaluation.score(made, data.test if split == "test" else data.val)
        if not np.array_equal(scored, labels):
            raise FmnistError(f"{run.path}: its logits are of other images than {split}")
        was = float((before.argmax(axis=1) == labels).mean())
        if score.accuracy < was - ALLOWED:
            raise FmnistError(
                f"{storage}: expected at most {ALLOWED:.1%} less than the run's {was:.2%} on "
                f"{split}, found {score.accuracy:.2%}; nothing was exported"
            )
        made.save_score(split, score.to_json())
        size = made.weights_path.stat().st_size
        parts = _cut(made.weights_path, part_size)
        try:
            hidden.rename(out)
        except OSError as error:
            raise FmnistError(f"{out}: could not be made ({error.strerror or error})") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return Export(
        str(out), storage, size, parts, split, score.n, score.accuracy, score.interval, was,
        int((before.argmax(axis=1) != logits.argmax(axis=1)).sum()),
        float(np.abs(before - logits).max()),
    )  # fmt: skip


def _copy(run: runs.Run, folder: Path) -> runs.Run:
    """A run folder with recipe, environment and learning curve, without what is of this machine."""
    env = run.env
    env.pop("command", None)
    env["data"].pop("folder", None)
    for other in (*env.get("teachers", []), *env.get("members", [])):
        other["run"] = Path(other["run"]).name
    made = runs.Run.create(folder, run.recipe, env)
    for line in run.metrics():
        made.append_metrics(line)
    return made


def _store(arrays: runs.Arrays, storage: Storage) -> dict[str, Any]:
    """The arrays as they are stored; `runs.Run.load_weights` reads them back as floats."""
    if storage == "float32":
        return {name: array.astype(np.float32) for name, array in arrays.items()}
    if storage == "float16":
        if any(np.abs(array).max(initial=0) > 65_504 for array in arrays.values()):
            raise FmnistError("float16: a weight is larger than 65,504; use int8 or float32")
        return {name: array.astype(np.float16) for name, array in arrays.items()}
    stored: dict[str, Any] = {}
    for name, array in arrays.items():
        if array.ndim < 2:
            stored[name] = array.astype(np.float32)
            continue
        largest = np.abs(array).max(axis=tuple(range(array.ndim - 1)))
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        stored[name] = np.rint(array / scale).astype(np.int8)
        stored[name + runs.SCALE] = scale
    return stored


def _cut(path: Path, part_size: int | None) -> list[str]:
    """The names of the file's parts: its own where it is small enough, or those cut from it."""
    size = path.stat().st_size
    if part_size is None or size <= part_size:
        return [path.name]
    whole, parts = hashlib.sha256(), []
    with path.open("rb") as file:
        for i in range(math.ceil(size / part_size)):
            content = file.read(part_size)
            whole.update(content)
            part = path.with_name(f"{path.name}.{i:03}")
            part.write_bytes(content)  # in a folder that nobody sees before it is whole
            digest = hashlib.sha256(content).hexdigest()
            parts.append({"name": part.name, "size": len(content), "sha256": digest})
    about = {"schema": runs.SCHEMA, "size": size, "sha256": whole.hexdigest(), "parts": parts}
    files.write_json(path.with_suffix(".json"), about)
    path.unlink()
    return [str(part["name"]) for part in parts]
