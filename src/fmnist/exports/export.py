"""A run in a form for elsewhere: scored as it lies there, by the program that will run it.

ONNX, LiteRT and Keras files take raw images and give logits and probabilities; safetensors, a run
folder as well, is weights to share, which `fmnist evaluate` and `fmnist verify` take. A card, which
says what the model is and how far to trust it, travels with each.
"""

import dataclasses
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fmnist.data.load import load_data
from fmnist.data.splits import Data
from fmnist.engine import backend
from fmnist.errors import FmnistError, RunError, UsageError
from fmnist.exports import card, litert, onnx_graph, portable
from fmnist.exports.formats import FILES, load, logits_of, measure_latency, runtime_of, save
from fmnist.exports.parts import copy_run, cut, store
from fmnist.inference.classifier import SCORE, energy
from fmnist.recipes.recipe import Ensemble, Recipe
from fmnist.runs.run import SCHEMA, Run, find_run
from fmnist.scoring import evaluate as evaluation
from fmnist.scoring.calibration import UNLIKE, fit_temperature
from fmnist.scoring.figures import score_logits
from fmnist.scoring.views import BATCH, predict_logits

Format = Literal["safetensors", "onnx", "litert", "keras"]
Storage = Literal["float32", "float16", "int8"]
STORAGES = {
    "safetensors": ("float16", "float32", "int8"),
    "onnx": ("float16", "float32", "int8"),
    "litert": ("float16", "float32", "int8"),
    "keras": ("float32",),
}
ALLOWED = 0.005  # share of the split's images by which an export may score less than the run
SAMPLES = 1000  # training images that set the ranges of int8
KNOWN = 5000  # training images that set the mark of outliers, where there is no val


@dataclass(frozen=True)
class Export:
    """An exported run: where, how large, and what it scores as it lies there.

    `size` is in bytes, of all `parts`, the names of its files. `accuracy` and `before`, the run's
    own, are of the same `split`, `n` images and views; `changed` answers differ,
    `largest_difference` is between logits. `temperature` is what the probabilities are made with.
    """

    folder: str
    format: str
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
    temperature: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return dataclasses.asdict(self)


def export(
    run: Run | str,
    format: Format = "safetensors",
    data: Data | None = None,
    *,
    storage: Storage | None = None,
    out: Path | str | None = None,
    part_size: int | None = None,
    calibrate: Run | str | None = None,
    replace: bool = False,
) -> Export:
    """Write a finished run in a form for elsewhere, with its card, and score it there.

    Args:
        run: its score of test, or of val where it has none of test, is made again, in one view
            (safetensors: in the run's). Test is noted in the ledger, for run and export.
        format: onnx, litert or keras: `model.onnx`, `.tflite` or `.keras`; or safetensors.
        data: what the run was trained on; None loads it.
        storage: float16 (the default but for keras, which is float32), float32 or int8. In float16
            kernels are stored, and turned back to float32 once, when they are loaded. In int8 the
            products are computed as well, but for the last layer and for safetensors.
        out: the folder, for safetensors a new one; by default `exports/NAME-FORMAT-STORAGE`.
        part_size: bytes; a larger `weights.safetensors` is cut into parts `.000`, `.001`, … whose
            sizes and SHA-256 stand in `weights.json`. The system's `cat` joins them.
        calibrate: a sibling of a run that was trained on all images: its temperature, fitted on its
            val, is taken. Without it such a run has temperature 1.
        replace: files that are there already, one by one (never a run folder).

    Raises RunError for a run without weights, UsageError for files that are there, FmnistError
    where accuracy falls by more than 0.5 points or a weight does not fit float16; nothing is left
    then.
    """
    run = Run(run)
    if format not in STORAGES:
        raise UsageError(f"format: expected one of {', '.join(STORAGES)}, received {format!r}")
    chosen = storage or STORAGES[format][0]
    if chosen not in STORAGES[format]:
        known = ", ".join(s for s in get_args(Storage) if s in STORAGES[format])
        raise UsageError(f"storage: expected one of {known} for {format}, received {storage!r}")
    shares = format == "safetensors"
    if part_size is not None and not shares:
        raise UsageError("part size: only safetensors is cut into parts; leave it out")
    if calibrate is not None and shares:
        raise UsageError("calibrate: safetensors holds no temperature; leave it out")
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
    for path in [out] if shares else [out / name for name in (FILES[format], *card.FILES)]:
        if path.exists() and not replace:
            more = "" if shares else ", or --replace it"
            raise UsageError(f"{path}: exists already; choose another folder by --out{more}")
    run.require_weights()
    if data is None:
        data = load_data(run.env["data"].get("folder"))
    hidden = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        if shares:
            made = _share(run, data, chosen, hidden, part_size)
        else:
            _make(hidden, out)
            made = _convert(run, data, format, chosen, hidden, calibrate)
        _place(hidden, out, merge=not shares)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return dataclasses.replace(made, folder=str(out))


def _share(run: Run, data: Data, storage: str, folder: Path, part_size: int | None) -> Export:
    """A run folder with the weights as `storage`, scored as any run is."""
    model, about = evaluation.load_model(run)
    arrays = {variable.path: backend.view(variable) for variable in model.variables}
    split = "test" if run.has_logits("test") else "val"
    before, labels = run.load_logits(split)
    made = copy_run(run, folder)
    form = f"{str(about.get('form')).partition(',')[0]}, {storage}"
    made.save_weights(store(arrays, storage), about | {"form": form, "storage": storage})
    score, logits, scored = evaluation.score(made, data.test if split == "test" else data.val)
    if not np.array_equal(scored, labels):
        raise FmnistError(f"{run.path}: its logits are of other images than {split}")
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
        calibrated_on="nothing: these are weights alone",
    )
    size = made.weights_path.stat().st_size
    parts = cut(made.weights_path, part_size)
    return _compared(
        before,
        logits,
        labels,
        Export(
            str(folder),
            "safetensors",
            storage,
            size,
            parts,
            split,
            score.n,
            score.accuracy,
            score.interval,
            0.0,
            0,
            0.0,
            1.0,
        ),
    )


def _convert(
    run: Run, data: Data, form: str, storage: str, folder: Path, calibrate: Run | str | None
) -> Export:
    """The file and its card in a new folder, scored in one view by the file's own runtime."""
    recipe, env = Recipe.from_json(run.recipe), run.env
    if env["data"]["hash"] != data.hash:
        raise UsageError(
            f"{run.path}: expected the data that it was trained on ({env['data']['name']}, hash "
            f"{env['data']['hash'][:16]}), received {data.name}, hash {data.hash[:16]}"
        )
    apart = recipe.fit_on == "train"
    split = "test" if "test" in run.scores or not apart else "val"
    model, about = evaluation.load_model(run)
    temperature, calibrated_on = _temperature(run, model, about, data, calibrate)
    path = folder / FILES[form]
    network = portable.build(model, recipe, about, temperature)
    save(network, form, path, storage, _some(data.train.images, SAMPLES))
    known = data.val if apart else data.train
    forward = load(form, path)
    familiar = energy(logits_of(forward, _some(known.images, KNOWN)))
    threshold = float(np.quantile(familiar, UNLIKE))
    outlier = {"score": SCORE, "threshold": threshold}
    if form == "onnx":
        onnx_graph.describe(
            path,
            {
                "schema": SCHEMA,
                "name": recipe.name,
                "classes": about["classes"],
                "shape": about["shape"],
                "temperature": temperature,
                "outlier": outlier,
            },
        )
        forward = load(form, path)
    shown = data.test.open() if split == "test" else data.val
    before = _own_logits(run, model, about, shown.images)
    logits = logits_of(forward, shown.images)
    if not np.isfinite(logits).all():
        raise FmnistError(f"{storage}: expected finite logits, found others; nothing was exported")
    times = None
    if split == "test":
        for what, each in (("keras", before), (f"{form}, {storage}", logits)):
            times = run.enter_in_ledger(
                {
                    "split": split,
                    "form": what,
                    "views": "one",
                    "data": data.hash,
                    "n": len(each),
                    "correct": int((each.argmax(axis=1) == shown.labels).sum()),
                }
            )
    score = score_logits(
        logits / temperature, shown.labels, tuple(about["classes"]), split, times_opened=times
    )
    made = _compared(
        before,
        logits,
        shown.labels,
        Export(
            str(folder),
            form,
            storage,
            path.stat().st_size,
            [path.name],
            split,
            score.n,
            score.accuracy,
            score.interval,
            0.0,
            0,
            0.0,
            temperature,
        ),
    )
    unlike = energy(logits) < threshold
    card.write(
        folder,
        run,
        path,
        score,
        logits,
        shown.labels,
        form=form,
        storage=storage,
        runtime=runtime_of(form),
        temperature=temperature,
        calibrated_on=calibrated_on,
        outlier=outlier
        | {
            "share": UNLIKE,
            "split": known.name,
            "n": len(familiar),
            "test_false_alarm": float(unlike.mean()) if split == "test" else None,
        },
        latency=measure_latency(form, path, shown.images[:1, ..., 0]),
    )
    return made


def _compared(
    before: NDArray[Any], logits: NDArray[Any], labels: NDArray[Any], made: Export
) -> Export:
    """The export with what the run itself scores. Raises FmnistError past the bound."""
    was = float((before.argmax(axis=1) == labels).mean())
    if made.accuracy < was - ALLOWED:
        raise FmnistError(
            f"{made.storage}: expected at most {ALLOWED:.1%} less than the run's {was:.2%} on "
            f"{made.split}, found {made.accuracy:.2%}; nothing was exported"
        )
    return dataclasses.replace(
        made,
        before=was,
        changed=int((before.argmax(axis=1) != logits.argmax(axis=1)).sum()),
        largest_difference=float(np.abs(before - logits).max()),
    )


def _temperature(
    run: Run, model: Any, about: dict[str, Any], data: Data, calibrate: Run | str | None
) -> tuple[float, str]:
    """The temperature, and what it was fitted on in words."""
    recipe, source = Recipe.from_json(run.recipe), run
    if calibrate is not None:
        source = find_run(calibrate)
        sibling = Recipe.from_json(source.recipe)
        if recipe.fit_on == "train":
            raise UsageError(f"{run.path}: has val images of its own; leave out --calibrate")
        if sibling.fit_on != "train" or _networks(sibling) != _networks(recipe):
            raise UsageError(
                f"{source.path}: expected a run of the same network that kept val apart"
            )
        if source.env["data"]["hash"] != data.hash or source.env["classes"] != about["classes"]:
            raise UsageError(f"{source.path}: expected a run on the same data as {run.path}")
        model, about = evaluation.load_model(source)
    elif recipe.fit_on == "all":
        return 1.0, "nothing: no image was kept apart from training"
    logits = _own_logits(source, model, about, data.val.images)
    whose = "" if source is run else f" of {source.name}, trained alike without these images"
    temperature = fit_temperature(logits, data.val.labels)
    return temperature, f"val (n={len(logits):,}){whose}"


def _networks(recipe: Recipe) -> list[Any]:
    """The options of a recipe's network, or of its members', however they were trained."""
    options = recipe.options
    return [m.options for m in options.members] if isinstance(options, Ensemble) else [options]


def _own_logits(
    run: Run, model: Any, about: dict[str, Any], images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """What a run itself answers, in one view. Raises RunError where that is no numbers."""
    forward = evaluation.compile_forward(model, about["mean"], about["deviation"])
    batch = min(BATCH, run.env["micro_batch"])
    logits = predict_logits(forward, images, batch=batch)
    if not np.isfinite(logits).all():
        raise RunError(f"{run.weights_path}: expected weights that give numbers, found others")
    return logits


def _some(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """At most `count` images, spread over all, as uint8 (n, height, width)."""
    chosen = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
    return np.ascontiguousarray(images[chosen, ..., 0])


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
