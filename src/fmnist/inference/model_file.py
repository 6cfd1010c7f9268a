"""Finds the ONNX file that a user means: one by its path, one in a folder, or that of a run.

A run's file is exported when it is first asked for, by `fmnist export` in a process of its own, so
that the one which predicts never loads Keras.
"""

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist.errors import RunError
from fmnist.files import read_json, sha256
from fmnist.inference.apart import run_apart
from fmnist.runs.folders import is_run
from fmnist.system import print_message

if TYPE_CHECKING:
    from fmnist.runs.run import Run

SHIPPED = Path(__file__).parent / "shipped" / "model.onnx"
MODEL = "model.onnx"
KEPT = "onnx"  # a run's folder for its ONNX file and the cards, apart from what it was shared with


def find_model(source: str | os.PathLike[str] | None) -> Path:
    """The .onnx file of `source`, as `Classifier.load` takes it. Raises RunError where none is."""
    if source is None:
        return SHIPPED
    path = Path(source)
    if path.is_file():
        return path
    if (path / MODEL).is_file() and not is_run(path):
        return path / MODEL
    from fmnist.runs.run import Run, run_path  # 50 ms, which the bundled model does not wait for

    if not is_run(folder := run_path(source)):
        raise RunError(
            f"{path}: expected an .onnx file, a folder with {MODEL}, or a run, found none"
        )
    run = Run(folder)
    run.require_weights()
    weights = sha256(run.weights_path)
    places = [run.path / KEPT, run.path]  # the second by `fmnist export RUN --out RUN`
    made = next((place for place in places if _is_of(place, weights)), None)
    return (made or _export(run, places[0])) / MODEL


def _is_of(folder: Path, weights: str) -> bool:
    """Whether a folder holds a whole ONNX file that was made of these weights."""
    with contextlib.suppress(RunError, OSError):
        card = read_json(folder / "card.json")
        return card.get("weights") == weights and card.get("sha256") == sha256(folder / MODEL)
    return False


def _export(run: "Run", folder: Path) -> Path:
    """The folder, with the run's ONNX file. Scored on val: to predict is no reason to open test."""
    made = f"fmnist export {run.path} --format onnx"
    if importlib.util.find_spec("keras") is None:
        raise RunError(
            f"{run.path}: expected an ONNX file of the run, which Keras makes, and Keras is not "
            f"installed here; run {made} where it is, and name the file"
        )
    if run.env["data"].get("folder") == "":
        raise RunError(
            f"{run.path}: was trained on arrays in hand; export it where they are, by "
            'fmnist.export(run, "onnx", data, out=FOLDER), and name FOLDER'
        )
    print_message(f"note: {run.path}: is exported to {folder / MODEL} first, once for its weights")
    options = ["--format=onnx", "--storage=float32", "--split=val", "--replace", f"--out={folder}"]
    options += ["--allow-loss=100"]  # precision's on a small val is no reason to answer nothing
    ended = run_apart("fmnist", "export", *options, "--", str(run.path), writes=True)
    if ended is None or ended.code:
        lines = ended.err.strip().splitlines() if ended else []
        why = lines[-1].removeprefix("error: ") if lines else "its process was killed"
        hint = f"; export it by {made} --data DATA --out DIR, and name DIR" if "data" in why else ""
        raise RunError(f"{run.path}: could not be exported, so it cannot answer ({why}){hint}")
    return folder
