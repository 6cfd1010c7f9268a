"""Twenty updates of two recipes, shrunk, from given states, on the engine of KERAS_BACKEND.

python tests/helpers/updates.py free FOLDER
KERAS_BACKEND=jax python tests/helpers/updates.py led FOLDER
"""

import sys
from pathlib import Path

import numpy as np

from fmnist.data.splits import Split
from fmnist.engine import backend
from fmnist.recipes.shipped import recipe
from fmnist.training.task import Task
from fmnist.training.trainer import Trainer

UPDATES = 20
CHANGES = {
    "standard": {
        "model.filters": (8, 12, 12),
        "model.pool_after": (1, 2),
        "model.shortcuts": (3,),
        "batch_size": 64,
        "cutout": 4,
    },
    "reference": {
        "model.filters": (6, 8),
        "model.pool_after": (1, 2),
        "model.dense_units": 16,
        "batch_size": 64,
        "crop": 2,
    },
}


def begin(name):
    """The training of a recipe before its first update, in float32, on bars placed by class."""
    made = recipe(name, **CHANGES[name], precision="float32", epochs=5)
    random = np.random.RandomState(0)
    labels = random.randint(0, 10, 256).astype("int32")
    images = random.randint(0, 128, (256, 14, 14, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label : label + 4] += 127
    env = {
        "precision": "float32",
        "shape": [14, 14, 1],
        "classes": list("0123456789"),
        "mean": 0.5,
        "deviation": 0.3,
        "micro_batch": 64 if made.batch_statistics else 17,
    }
    return Trainer(Task(made, env, Split(images, labels)), env["micro_batch"])


def state_of(trainer):
    """All that an update goes by and changes, by its path: weights, optimiser, running means."""
    return {v.path: np.array(v.value) for v in trainer.updater.variables()}


def put(trainer, states, number):
    """Let the trainer have the state of this number."""
    for variable in trainer.updater.variables():
        variable.assign(states[variable.path][number])


def stacked(states):
    return {path: np.stack([state[path] for state in states]) for path in states[0]}


def free(trainer):
    """The states before the first update and after each; each update's running mean loss."""
    states, losses = [state_of(trainer)], []
    for update in range(UPDATES):
        losses.append(float(trainer.step(update)["loss"]))
        states.append(state_of(trainer))
    return stacked(states), losses


def led(trainer, states):
    """The states after each update, where each begins from what `states` has before it."""
    after = []
    for update in range(UPDATES):
        put(trainer, states, update)
        trainer.step(update)
        after.append(state_of(trainer))
    return stacked(after)


def load(path):
    with np.load(path) as file:
        return {**file}


def main(mode, folder):
    """`free` makes NAME.npz, `led` follows it on another engine or device: NAME-led.npz."""
    for name in CHANGES:
        trainer, path = begin(name), folder / f"{name}.npz"
        if mode == "free":
            states, losses = free(trainer)
        else:
            given, path = load(path), folder / f"{name}-led.npz"
            states = led(trainer, given)
            put(trainer, given, 0)
            _, losses = free(trainer)
        np.savez(path, **states, losses=losses)


def check(folder):
    """That both modes have come to the same.

    Each update of `led` began from what `free` had before it. Left to themselves the two drift
    apart from the first value whose sign, or place of a maximum, rounding decides: of such runs
    only the loss is compared.
    """
    for name in CHANGES:
        ours, theirs = load(folder / f"{name}.npz"), load(folder / f"{name}-led.npz")
        assert ours.keys() == theirs.keys()
        np.testing.assert_allclose(ours.pop("losses"), theirs.pop("losses"), atol=1e-3)
        for path, values in ours.items():
            moved = largest(values[1:] - values[:-1])
            differences = largest(values[1:] - theirs[path]) / np.where(moved, moved, 1)
            # Measured: 2e-5, and 2e-4. One of 20 may hold a decision that rounding takes.
            assert np.median(differences) < 2e-4, (name, path, differences)
            assert np.max(differences) < 0.1, (name, path, differences)


def largest(values):
    """The largest size among each update's values."""
    return np.abs(values).reshape(UPDATES, -1).max(axis=1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    print(backend.device())
