"""`train` starts a run, `resume` continues one."""

import contextlib
import gc
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from fmnist.data.splits import Data, Split
from fmnist.engine import backend, distributed
from fmnist.engine.architecture import Network
from fmnist.errors import DataError, FmnistError, RunError, UsageError, printable
from fmnist.recipes import shipped
from fmnist.recipes.recipe import Recipe
from fmnist.runs import run as runs
from fmnist.runs.same_data import require_same_data
from fmnist.signals import Interrupted
from fmnist.training import photos as own_photos
from fmnist.training import trackers
from fmnist.training.environment import of_training
from fmnist.training.loop import AtEpoch, fit
from fmnist.training.micro_batch import choose_micro_batch
from fmnist.training.null_run import NullRun, in_every_process
from fmnist.training.own_network import from_file, with_network
from fmnist.training.progress import Progress
from fmnist.training.task import Task
from fmnist.training.trainer import Trainer

_trainings = itertools.count(1)


def train(
    recipe: Recipe | str,
    data: Data,
    run: str | Path | None = None,
    *,
    network: Network | None = None,
    photos: str | Path | None = None,
    teachers: Iterable[str | Path | runs.Run] = (),
    micro_batch: int | None = None,
    memory_limit: int | None = None,
    checkpoint_seconds: float | None = None,
    checkpoint_updates: int | None = None,
    callbacks: Sequence[AtEpoch] = (),
    log: Sequence[str] = (),
    progress: Progress | None = None,
) -> runs.Run:
    """Train a recipe; returns its run folder, with the weights after the last update.

    Args:
        recipe: what to train, and how; or the name of a shipped recipe, or a recipe.json file.
        data: from `load_data`; only `data.train` and `data.val` are used.
        run: the folder to make; None makes up a name under `runs/`.
        network: a Keras model to train instead of the recipe's, from standardised float32 images
            (n, height, width, 1) to logits (n, classes), or a function of (shape, classes) that
            returns one. The recipe's augmentation comes before it, and its weights are drawn anew.
            It is made of Keras' own layers, which the recipe keeps: no code is needed later.
        photos: a folder with a folder a kind of photos, see `photo_folders.read`. They are learnt
            together with the data's images of 28×28 pixels on black.
        teachers: finished runs whose outputs are learnt besides the labels, see `teachers`.
        micro_batch: images on the device at once; None: as many as fit the memory. A model with
            batch statistics takes it from the recipe instead.
        memory_limit: the largest memory to use, in bytes: the accelerator's, else resident memory
            (Linux).
        checkpoint_seconds: seconds between checkpoints of the whole state; None: 300, or 100 times
            as long as saving takes if that is more.
        checkpoint_updates: also save a checkpoint after every so many updates.
        callbacks: functions that are called at the end of each epoch with a dict of its figures:
            its line of `metrics.jsonl`. What one raises ends the training; `resume` goes on.
        log: trackers that follow the training: `tensorboard` (event files in the run folder),
            `mlflow` (the server that MLFLOW_TRACKING_URI names). One that fails is one line.
        progress: shows the progress; None: a bar on a terminal, else lines.

    If memory runs out, training continues from the last checkpoint with half the micro-batch.
    Raises OutOfMemoryError if the micro-batch cannot be halved, UsageError for arguments that do
    not fit together, NonFiniteLossError if the loss is NaN or infinite, Interrupted after SIGINT
    (Ctrl-C), SIGTERM or SIGHUP. `resume` continues an interrupted run.

    After `distributed.initialise` all processes call this alike, and process 0 alone has a run
    folder and returns it; the others return None.
    """
    _collect_now_and_then()
    if isinstance(recipe, str | os.PathLike):
        recipe = shipped.recipe(os.fspath(recipe))
    if network is not None and distributed.first():
        built = from_file(Path(network)) if isinstance(network, str | os.PathLike) else network
        recipe = with_network(recipe, built, data.shape, len(data.classes))
    recipe = Recipe.from_json(distributed.share(recipe.to_json()))
    _refuse_ensemble(recipe)
    log = [log] if isinstance(log, str) else log
    for name in log:
        trackers.require(name)
    _require_functions(callbacks)
    recipe.check_micro_batch(micro_batch)
    recipe.check_shape(data.shape, len(data.classes))
    if run is not None and distributed.first():
        runs.Run.refuse_existing(run)
    split = data.fitting(recipe.fit_on)
    progress = progress or Progress()
    beside, record = _photos(photos, split, data, recipe, progress)
    described = of_training(recipe, data, split, map(runs.find_run, teachers))
    env = distributed.share(described | ({"photos": [record]} if record else {}))
    _refuse_other_data(env, data)
    own_photos.require_same(env, beside)
    task = Task(recipe, env, split, data.val, beside)
    model = task.build()
    env["parameters"] = model.count_params()
    env["micro_batch"], env["probe"] = distributed.share(
        choose_micro_batch(task, model, micro_batch, memory_limit)
    )
    if log:
        env["log"] = list(dict.fromkeys(log))
    trainer = Trainer(task, env["micro_batch"], model)
    del model  # the trainer's alone, which lets go of it where memory is short
    folder = runs.Run.create(run, recipe, env) if distributed.first() else None
    shared = in_every_process(folder)
    with shared.locked(), reason_kept(shared), trackers.followed(folder, progress.note) as logs:
        followers: Sequence[AtEpoch] = (*logs, *callbacks)
        fit(trainer, shared, progress, checkpoint_seconds, checkpoint_updates, followers)
    return cast(runs.Run, folder)


def _photos(
    folder: str | Path | None, split: Split, data: Data, recipe: Recipe, progress: Progress
) -> tuple[own_photos.Photos | None, dict[str, Any] | None]:
    """The photos of a folder, and their record; none without one."""
    if folder is None:
        return None, None
    return own_photos.load(Path(folder), split, data.classes, recipe.seed, progress.say)


def _require_functions(callbacks: Sequence[AtEpoch]) -> None:
    if not isinstance(callbacks, list | tuple) or not all(map(callable, callbacks)):
        raise UsageError(
            "callbacks: expected a list of functions that take an epoch's figures, a dict, "
            f"received {callbacks!r:.80}; Keras' callbacks go with fmnist.micro_batched and fit"
        )


def resume(
    run: runs.Run | str | Path,
    data: Data,
    *,
    photos: str | Path | None = None,
    checkpoint_seconds: float | None = None,
    checkpoint_updates: int | None = None,
    callbacks: Sequence[AtEpoch] = (),
    progress: Progress | None = None,
) -> runs.Run:
    """Go on with an interrupted run from its newest whole checkpoint, as if it had not stopped.

    The trackers that followed it go on too. `photos` is where its photos are now; None: where they
    were.
    Raises RunError for a finished run, one that another process trains, or other data or photos.
    """
    _require_functions(callbacks)
    folder = runs.find_run(run) if distributed.first() else None
    if folder:
        folder.require_unfinished()
    values, env = distributed.share([folder.recipe_json, dict(folder.env)] if folder else None)
    recipe = Recipe.from_json(values)
    _refuse_ensemble(recipe)
    _refuse_other_data(env, data)
    if (env["shape"], env["classes"]) != (list(data.shape), list(data.classes)):
        raise RunError(f"{run}: env.json: expected the data's image shape and classes")
    as_many_threads = backend.use_threads(env["threads"])
    progress = progress or Progress()
    versions = backend.versions().items()
    changed = [f"{k} {v}" for k, v in versions if env["versions"].get(k) != v]
    if not as_many_threads:
        changed.append(f"{backend.threads()} threads instead of {env['threads']}")
    if (before := env.get("devices", 1)) != distributed.devices():
        changed += [f"{distributed.devices()} devices instead of {before}"]
    if changed:
        progress.say(f"note: other than before ({', '.join(changed)}): bits may differ")
    shared = in_every_process(folder)
    with shared.locked(), reason_kept(shared), trackers.followed(folder, progress.note) as logs:
        split = data.fitting(recipe.fit_on)
        where = photos or next((each["folder"] for each in env.get("photos", [])), None)
        if not photos and where and not Path(where).is_dir():
            raise DataError(f"{where}: expected the run's photos; --photos DIR says where they are")
        beside, _ = _photos(where, split, data, recipe, progress)
        own_photos.require_same(env, beside)
        task = Task(recipe, env, split, data.val, beside)
        trainer = Trainer(task, env["micro_batch"])
        followers: Sequence[AtEpoch] = (*logs, *callbacks)
        fit(trainer, shared, progress, checkpoint_seconds, checkpoint_updates, followers)
    return cast(runs.Run, folder)


@contextlib.contextmanager
def reason_kept(run: runs.Run | NullRun) -> Iterator[None]:
    """What ends the training, other than a signal, stands in env.json until it is resumed."""
    if run.env.get("ended"):
        run.change_env(ended=None)
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        why = str(error) if isinstance(error, FmnistError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(FmnistError, OSError):
            run.change_env(ended={"when": runs.now(), "why": printable(why)})
        raise


def _collect_now_and_then() -> None:
    """Free the models of earlier trainings in this process, at every fourth.

    They are cycles, which Python seeks seldom: of 20 small trainings it kept 60 MB. To seek them
    takes half a second.
    """
    if next(_trainings) % 4 == 0:
        gc.collect()


def _refuse_other_data(env: dict[str, Any], data: Data) -> None:
    require_same_data("the run", env["data"], data)
    if (before := env["backend"]) != backend.name():
        raise RunError(f"the run was begun with backend {before}, here it is {backend.name()}")


def _refuse_ensemble(recipe: Recipe) -> None:
    if recipe.model == "ensemble":
        raise UsageError("model ensemble: is made of finished runs, by fmnist ensemble RUN RUN")
