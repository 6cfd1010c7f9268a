"""Makes an ONNX, LiteRT or Keras file of a run, calibrates it and scores it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data.splits import Data
from fmnist.errors import FmnistError, RunError, UsageError
from fmnist.exports import card, portable
from fmnist.exports.doubt import on_photos, photos_for
from fmnist.exports.formats import (
    FILES,
    describe,
    load,
    logits_of,
    measure_latency,
    runtime_of,
    save,
)
from fmnist.exports.outcome import Export, compare_with_run
from fmnist.inference.classifier import SCORE, WHOLE, energy
from fmnist.recipes.networks.ensemble import Ensemble
from fmnist.recipes.recipe import Recipe
from fmnist.runs.ledger import EXPORT
from fmnist.runs.run import SCHEMA, Run, find_run
from fmnist.scoring import evaluate as evaluation
from fmnist.scoring.calibration import UNLIKE, fit_temperature
from fmnist.scoring.figures import score_logits
from fmnist.scoring.views import BATCH, predict_logits

SAMPLES = 1000  # training images that set the ranges of int8
KNOWN = 5000  # training images that set the mark of outliers, where there is no val


def convert(
    run: Run,
    data: Data,
    form: str,
    storage: str,
    folder: Path,
    calibrate: Run | str | None,
    split: str | None,
    allow_loss: float | None,
    photo_folder: Path | None = None,
    views: str = "one",
) -> Export:
    """The file and its card in a new folder, scored by the file's own runtime.

    The arguments are as for `export`. Raises UsageError for other data than the run's, RunError for
    weights that give NaN or infinity, FmnistError for an export that does, or scores too low.
    """
    recipe = run.recipe
    run.require_data(data.hash, data.name)
    apart = recipe.fit_on == "train"
    # An export is no reason to open test.
    split = split or ("test" if "test" in run.scores else "val")
    model, about = evaluation.load_model(run)
    temperature, calibrated_on = _temperature(run, model, about, data, calibrate, views)
    # What is light on dark is cut out of photos as Fashion-MNIST's garments were.
    photos, photo_score = "cut out" if data.train.on_black else WHOLE, None
    found = photos_for(photo_folder, run, photos == WHOLE) if photo_folder else None
    path = folder / FILES[form]
    network = portable.build(model, recipe, about, temperature, guarded=form == "keras")
    save(network, form, path, storage, _some(data.train.images, SAMPLES), flip=views == "flip")
    known = data.val if apart else data.train
    forward = load(form, path)
    familiar = energy(logits_of(forward, _some(known.images, KNOWN)))
    threshold = float(np.quantile(familiar, UNLIKE))
    outlier = {"score": SCORE, "threshold": threshold}
    said = {key: about[key] for key in ("classes", "shape")} | {"outlier": outlier}
    said |= {"photos": photos, "schema": SCHEMA, "name": recipe.name, "temperature": temperature}
    if found:
        # The file has its temperature by now, and answers as it will.
        said["doubt"], photo_score = on_photos(found, forward, threshold)
    describe(form, path, said)
    forward = load(form, path)
    shown = data.test.open() if split == "test" else data.val
    before = _own_logits(run, model, about, shown.images, views)
    logits = logits_of(forward, shown.images)
    if not np.isfinite(logits).all():
        raise FmnistError(f"{storage}: expected finite logits, found others; nothing was exported")
    classes = tuple(about["classes"])
    score = score_logits(logits / temperature, shown.labels, classes, split, views=views)
    score = evaluation.note(run, score, EXPORT, f"{form}, {storage}")
    made = compare_with_run(
        before,
        logits,
        shown.labels,
        score,
        folder=folder,
        form=form,
        storage=storage,
        size=path.stat().st_size,
        parts=[path.name],
        temperature=temperature,
        allow_loss=allow_loss,
    )
    made = dataclasses.replace(made, doubt=said.get("doubt"), photo_score=photo_score)
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
        before=made.before,
        temperature=temperature,
        calibrated_on=calibrated_on,
        photos=photos,
        doubt=made.doubt,
        photo_score=photo_score,
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


def _temperature(
    run: Run, model: Any, about: dict[str, Any], data: Data, calibrate: Run | str | None, views: str
) -> tuple[float, str]:
    """The temperature, and what it was fitted on in words."""
    recipe, source = run.recipe, run
    if calibrate is not None:
        source = find_run(calibrate)
        sibling = source.recipe
        if recipe.fit_on == "train":
            raise UsageError(f"{run.path}: has val images of its own; leave out --calibrate")
        if sibling.fit_on != "train" or _networks(sibling) != _networks(recipe):
            raise UsageError(
                f"{source.path}: expected a run of the same network that kept val apart"
            )
        source.require_data_of(run)
        if source.env["classes"] != about["classes"]:
            raise UsageError(f"{source.path}: expected a run on the classes of {run.path}")
        model, about = evaluation.load_model(source)
    elif recipe.fit_on == "all":
        return 1.0, "nothing: training used every image"
    logits = _own_logits(source, model, about, data.val.images, views)
    whose = ""
    if source is not run:
        whose = f" of {source.name}, which was trained in the same way without these images"
    temperature = fit_temperature(logits, data.val.labels)
    return temperature, f"val (n={len(logits):,}){whose}"


def _networks(recipe: Recipe) -> list[Any]:
    """The options of a recipe's network, or of its members', however they were trained."""
    options = recipe.options
    return [m.options for m in options.members] if isinstance(options, Ensemble) else [options]


def _own_logits(
    run: Run, model: Any, about: dict[str, Any], images: NDArray[np.uint8], views: str
) -> NDArray[np.float32]:
    """The run's own logits. Raises RunError for NaN or infinity."""
    forward = evaluation.compile_forward(model, about["mean"], about["deviation"])
    batch = min(BATCH, run.env["micro_batch"])
    logits = predict_logits(forward, images, views, batch)
    if not np.isfinite(logits).all():
        raise RunError(
            f"{run.weights_path}: expected weights that give finite logits, found others"
        )
    return logits


def _some(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """At most `count` images, spread over all, as uint8 (n, height, width)."""
    chosen = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
    return np.ascontiguousarray(images[chosen, ..., 0])
