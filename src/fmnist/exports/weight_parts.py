"""The contents of a safetensors export: weights in a smaller form, cut into parts."""

import copy
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from fmnist import files
from fmnist.errors import FmnistError
from fmnist.runs.arrays import SCALE
from fmnist.runs.run import SCHEMA, Arrays, Run


def portable_env(run: Run) -> dict[str, Any]:
    """A run's environment without what is of this machine: its command, its folders."""
    env: dict[str, Any] = copy.deepcopy(dict(run.env))
    env.pop("command", None)
    env["data"].pop("folder", None)
    for other in (*env.get("teachers", []), *env.get("members", [])):
        other["run"] = Path(other["run"]).name
    for photos in env.get("photos", []):
        photos["folder"] = Path(photos["folder"]).name
    return env


def copy_run(run: Run, folder: Path) -> Run:
    """A run folder with recipe, environment and learning curve, without what is of this machine."""
    made = Run.create(folder, run.recipe, portable_env(run))
    (folder / "lock").unlink()  # nothing trains it
    files.write_json(folder / "recipe.json", run.recipe_json)  # as its weights were trained by
    for line in run.metrics():
        made.append_metrics(line)
    return made


def store(arrays: Arrays, storage: str) -> dict[str, Any]:
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
        stored[name + SCALE] = scale
    return stored


def cut(path: Path, part_size: int | None) -> list[str]:
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
    about = {"schema": SCHEMA, "size": size, "sha256": whole.hexdigest(), "parts": parts}
    files.write_json(path.with_suffix(".json"), about)
    path.unlink()
    return [str(part["name"]) for part in parts]
