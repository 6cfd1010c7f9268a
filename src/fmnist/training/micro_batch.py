"""Chooses the micro-batch: the largest that fits the memory, or half of it if memory runs out."""

import gc
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from fmnist import system
from fmnist.engine import backend, keras
from fmnist.errors import OutOfMemoryError, RunError, UsageError
from fmnist.recipes.shipped import RECIPES
from fmnist.runs.commands import command, resume_command
from fmnist.training.task import Task


def choose_micro_batch(
    task: Task, model: keras.Model, asked: int | None, limit: int | None
) -> tuple[int, dict[str, int] | None]:
    """The micro-batch to use; also the measured peaks in bytes by micro-batch, if it measured any.

    Args:
        task, model: what is to be trained, and its model from `task.build`.
        asked: the micro-batch that the user wants; None: the largest that fits.
        limit: the largest memory to use, in bytes; None: 80 % of the available memory.

    Raises UsageError if not even a small micro-batch fits.
    """
    recipe = task.recipe
    if recipe.batch_statistics:
        asked = recipe.micro_batch or recipe.batch_size
    own = backend.accelerator_memory()[0]
    allowed = limit or int(0.8 * (own or system.available() or 2**62))
    if limit is None and (asked or estimate(task, model) < allowed / 2):
        return asked or task.batch, None
    if own:
        size, peaks = largest_micro_batch(
            lambda size: planned_peak(task, model, size), task.batch, allowed, asked
        )
    else:
        # Beside the updates there are the images, of which a split is a copy of what was read.
        images = task.images.nbytes + (task.val.images.nbytes if task.val else 0)
        size, peaks = largest_micro_batch(
            lambda size: measured_peak(task, size), task.batch, allowed - 2 * images, asked
        )
    return asked or size, {str(k): v for k, v in peaks.items()}


def estimate(task: Task, model: keras.Model) -> int:
    """A generous guess at the bytes one update needs undivided: weights, state, activations."""
    elements = sum(
        math.prod(d or 1 for d in out.shape)
        for layer in model._flatten_layers(include_self=False)
        for call in layer._inbound_nodes
        for out in call.output_tensors
    )
    return 8 * 4 * int(task.env["parameters"]) + task.batch * elements * 4 * 4


def planned_peak(task: Task, model: keras.Model, size: int) -> int:
    """Accelerator memory in bytes that XLA plans for updates with micro-batches of `size`.

    A separate process could not measure it, since this process holds the memory.
    """
    planned = task.compile(model, size).planned_bytes(min(task.batch, 2 * size))
    gc.collect()  # the trial's optimiser, which else stays on the device
    return planned


def measured_peak(task: Task, size: int) -> int | None:
    """Peak memory in bytes of a process that trains and saves with micro-batches of `size`.

    It is a separate process, since an engine never gives memory back. None if the system kills it
    for lack of memory.
    """
    asked = {"recipe": task.recipe.to_json(), "env": task.env, "micro_batch": size}
    probe = subprocess.run(
        [sys.executable, "-m", "fmnist.training.memory_probe"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"KERAS_BACKEND": backend.name()},
    )
    if probe.returncode == 0:
        return int(probe.stdout.split()[-1])
    last = (probe.stderr.strip().splitlines() or ["no message"])[-1]
    if probe.returncode < 0 or "emory" in last or "OOM" in last:
        return None
    raise RunError(f"memory: the trial of a micro-batch of {size} failed ({last})")


def largest_micro_batch(
    peak_of: Callable[[int], int | None], batch: int, room: int, asked: int | None = None
) -> tuple[int, dict[int, int]]:
    """The largest micro-batch whose updates stay within `room` bytes of resident memory.

    `peak_of(m)` measures updates with micro-batch m, in bytes, or None if memory ran out.
    Activations grow in proportion to the images, so two small sizes predict the larger ones. A
    tenth of the remaining memory stays as margin. With `asked`, only that micro-batch is measured.
    Returns the micro-batch and the peaks.

    Raises UsageError if not even the smallest fits.
    """
    peaks: dict[int, int] = {}
    sizes = {min(asked, batch)} if asked else {min(8, batch), min(32, batch)}
    for size in sorted(sizes):
        measured = peak_of(size)
        if measured is None or measured > room:
            if not peaks:
                needed = "more" if measured is None else f"{measured / 1e9:.2f} GB"
                raise UsageError(
                    f"memory: expected updates with a micro-batch of {size} to fit the "
                    f"{room / 1e9:.2f} GB that data and saving leave, they took {needed}; "
                    "allow more memory, give --micro-batch, or choose a smaller model"
                )
            break
        peaks[size] = measured
    (small, low), (large, high) = min(peaks.items()), max(peaks.items())
    slope = max((high - low) / max(large - small, 1), 1)
    fits = min(batch, large + int(0.9 * (room - high) / slope)) if large > small else small
    # Equal parts waste least: as few as can be, then the size that they need.
    return -(-batch // -(-batch // fits)), peaks


def half_the_micro_batch(task: Task, size: int, run: Path, update: int) -> int:
    """Half the micro-batch, to continue with after memory ran out for `size` images in an update.

    Raises OutOfMemoryError for one image, and for a model with batch statistics.
    """
    short = f"update {update}: memory is short for {size} images at once"
    if task.recipe.batch_statistics:
        named = task.recipe.name if task.recipe.name in RECIPES else run / "recipe.json"
        fewer = command("train", named, "--set", f"micro_batch={size // 2}")
        raise OutOfMemoryError(
            f"{short}, which the model's batch statistics need; resume with more memory by "
            f"{resume_command(run)}, or start a new run with fewer images by {fewer}"
        )
    if size == 1:
        raise OutOfMemoryError(f"{short}; close other programs, or train a smaller network")
    return size // 2
