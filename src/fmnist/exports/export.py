"""Exports a run, and scores the exported files with the program that will run them.

ONNX, LiteRT and Keras files take raw images and give logits and probabilities. A safetensors export
is a run folder with weights to share; `fmnist evaluate` and `fmnist verify` read it. Each export
has a card with the model's description, scores and limits.
"""

import dataclasses
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from fmnist.data.load import load_data
from fmnist.data.splits import Data
from fmnist.engine import backend
from fmnist.errors import FmnistError, UsageError
from fmnist.exports import card, huggingface, litert
from fmnist.exports.convert import convert
from fmnist.exports.formats import FILES
from fmnist.exports.outcome import Export, compare_with_run
from fmnist.exports.weight_parts import copy_run, cut, store
from fmnist.runs.ledger import EXPORT
from fmnist.runs.run import Run, find_run
from fmnist.scoring import evaluate as evaluation

Format = Literal["safetensors", "onnx", "litert", "keras", "huggingface"]
Storage = Literal["float32", "float16", "int8"]
STORAGES = {
    "safetensors": ("float16", "float32", "int8"),
    "onnx": ("float16", "float32", "int8"),
    "litert": ("float16", "float32", "int8"),
    "keras": ("float32",),
    "huggingface": ("float16", "float32"),
}


def export(
    run: Run | str,
    format: Format = "safetensors",
    data: Data | None = None,
    *,
    storage: Storage | None = None,
    out: Path | str | None = None,
    part_size: int | None = None,
    calibrate: Run | str | None = None,
    photos: Path | str | None = None,
    views: Literal["one", "flip"] = "one",
    split: str | None = None,
    allow_loss: float | None = None,
    replace: bool = False,
) -> Export:
    """Export a finished run with its card, and score the exported files.

    Args:
        run: the run to export. It is scored again by `views` (safetensors: by the run's). The
            ledger records a test score as that of an export.
        format: onnx, litert or keras: `model.onnx`, `.tflite` or `.keras`; safetensors; or
            huggingface, a folder for the Hub: the ONNX file, safetensors, config.json, README.md.
        data: the data that the run was trained on; None loads it.
        storage: float16 (the default, except for keras), float32 (the only one for keras) or int8.
            float16 stores the kernels; loading turns them back to float32. int8 also computes the
            products in 8 bits, except in the last layer and for safetensors.
        out: the folder, for safetensors a new one; by default `exports/NAME-FORMAT-STORAGE`.
        part_size: bytes; a larger `weights.safetensors` is cut into parts `.000`, `.001`, … whose
            sizes and SHA-256 stand in `weights.json`. The system's `cat` joins them.
        calibrate: for a run trained on all images, a run of the same recipe that kept val apart.
            Its val gives the temperature. Without it the temperature is 1.
        photos: a folder with a folder a kind of photos, see `photo_folders.read`, that the run has
            not learnt: they tell from which probability on an answer is sure. Without it: 0.5.
        views: one; or flip, for ONNX: the file answers by the mean over the image and its mirror
            image, with the same weights, in twice the time.
        split: val or test, the one to score; None: test where the run was scored on it, else val.
        allow_loss: points of accuracy that the file may lose, 0 to 100; None: 0.5.
        replace: overwrite the files of an earlier export (never a run folder, never other files).

    Raises RunError for a run without weights, UsageError for files that exist, FmnistError if
    accuracy falls by more than is allowed, a weight does not fit float16 or nothing can be written.
    No files are left then.
    """
    run = find_run(run)
    if format not in STORAGES:
        raise UsageError(f"format: expected one of {', '.join(STORAGES)}, received {format!r}")
    chosen = storage or STORAGES[format][0]
    if chosen not in STORAGES[format]:
        known = ", ".join(s for s in get_args(Storage) if s in STORAGES[format])
        raise UsageError(f"storage: expected one of {known} for {format}, received {storage!r}")
    if split not in (None, "val", "test"):
        raise UsageError(f"split: expected val or test, received {split!r}")
    if allow_loss is not None and not 0 <= allow_loss <= 100:
        raise UsageError(f"allow loss: expected 0 to 100 points, received {allow_loss:g}")
    shares = format == "safetensors"
    if part_size is not None and not shares:
        raise UsageError("part size: only safetensors is cut into parts; leave it out")
    if calibrate is not None and shares:
        raise UsageError("calibrate: safetensors holds no temperature; leave it out")
    if views not in ("one", "flip"):
        raise UsageError(f"--views: expected one or flip, received {views!r}")
    if views == "flip" and format not in ("onnx", "huggingface"):
        raise UsageError(f"--views: flip is for onnx and huggingface, received format {format}")
    if photos is not None and shares:
        raise UsageError("--photos: safetensors holds no mark of doubt; leave it out")
    if format == "litert":
        litert.require_converter()
    least = math.ceil(run.weights_path.stat().st_size / 1000) if run.finished else 0
    if part_size is not None and part_size < least:
        raise UsageError(
            f"part size: expected at least {least:,} bytes, for no more than 1,000 parts, "
            f"received {part_size:,}"
        )
    out = Path(out) if out is not None else Path("exports") / f"{run.name}-{format}-{chosen}"
    if shares and replace:
        raise UsageError("--replace: a run folder is never written over; leave it out")
    hub = format == "huggingface"
    form = "onnx" if hub else format
    names = () if shares else (FILES[form], *card.FILES, *(huggingface.FILES if hub else ()))
    _require_place(out, names, replace)
    run.require_weights()
    if data is None:
        about = run.env["data"]
        data = load_data(about.get("folder") or None, **about.get("reading", {}))
    hidden = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        if shares:
            made = _share(run, data, chosen, hidden, part_size, split, allow_loss)
        else:
            _make(hidden, out)
            place = Path(photos) if photos is not None else None
            made = convert(
                run, data, form, chosen, hidden, calibrate, split, allow_loss, place, views
            )
            if hub:
                huggingface.write(hidden, run, chosen)
                parts = [FILES[form], huggingface.WEIGHTS]
                size = sum((hidden / part).stat().st_size for part in parts)
                made = dataclasses.replace(made, format=format, size=size, parts=parts)
        _place(hidden, out, merge=not shares)
    except OSError as error:  # of the formats' own writers; a reader's is a RunError
        raise FmnistError(f"{out}: could not be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return dataclasses.replace(made, folder=str(out))


def _require_place(out: Path, names: Sequence[str], replace: bool) -> None:
    """Raise UsageError unless a new folder, or files of these names in it, can be put at `out`."""
    if names and os.path.lexists(out) and not out.is_dir():
        raise UsageError(f"{out}: expected a folder, found something else; name another by --out")
    for path in [out / name for name in names] or [out]:
        if os.path.lexists(path) and not replace:
            more = ", or --replace it" if names else ""
            raise UsageError(f"{path}: exists already; choose another folder by --out{more}")
    if replace:
        card.require_own(out, names, card.MARKS | huggingface.MARKS)


def _share(
    run: Run,
    data: Data,
    storage: str,
    folder: Path,
    part_size: int | None,
    split: str | None,
    allow_loss: float | None,
) -> Export:
    """A run folder with the weights as `storage`, scored as any run is."""
    model, about = evaluation.load_model(run)
    arrays = {variable.path: backend.view(variable) for variable in model.weights}
    # One that learnt val has no score to share before it has one on test.
    apart = run.recipe.fit_on != "all"
    split = split or ("test" if run.has_logits("test") or not apart else "val")
    before, labels = run.load_logits(split)
    made = copy_run(run, folder)
    form = f"{str(about.get('form')).partition(',')[0]}, {storage}"
    made.save_weights(store(arrays, storage), about | {"form": form, "storage": storage})
    score, logits, scored = evaluation.score(made, data.test if split == "test" else data.val)
    if not np.array_equal(scored, labels):
        raise FmnistError(f"{run.path}: its logits are of other images than {split}")
    score = evaluation.note(run, score, EXPORT, form)
    made.save_score(split, score.to_json())
    card.write(
        folder,
        run,
        made.weights_path,
        score,
        logits,
        labels,
        form="safetensors",
        storage=storage,
        runtime=f"Keras {backend.versions()['keras']} on {backend.name()}",
        before=float((before.argmax(axis=1) == labels).mean()),
        calibrated_on="nothing: this file holds weights alone",
    )
    size = made.weights_path.stat().st_size
    parts = cut(made.weights_path, part_size)
    return compare_with_run(
        before,
        logits,
        labels,
        score,
        folder=folder,
        form="safetensors",
        storage=storage,
        size=size,
        parts=parts,
        allow_loss=allow_loss,
    )


def _make(hidden: Path, out: Path) -> None:
    try:
        hidden.mkdir(parents=True)
    except OSError as error:
        raise FmnistError(f"{out}: could not be made ({error.strerror or error})") from error


def _place(hidden: Path, out: Path, merge: bool) -> None:
    """Put what was made where it was asked for: a folder, or files into one that may be there.

    Each appears whole; of files the model is the last.
    """
    try:
        if not merge:
            hidden.rename(out)
            return
        out.mkdir(parents=True, exist_ok=True)
        for path in sorted(hidden.iterdir()):  # card.html, card.json, model.*
            path.replace(out / path.name)
    except OSError as error:
        raise FmnistError(f"{out}: could not be made ({error.strerror or error})") from error
