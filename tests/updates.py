"""Twenty updates of two recipes, shrunk, from given weights, on the engine of KERAS_BACKEND.

python tests/updates.py FOLDER      # NAME.npz of each: weights; NAME-after.npz: what became of them
"""

import sys
from pathlib import Path

import numpy as np

from fmnist.data import Split
from fmnist.recipes import recipe
from fmnist.training import _Session

UPDATES = 20
CHANGES = {
    "standard": {
        "model.filters": (8, 12, 12), "model.pool_after": (1, 2), "model.shortcuts": (3,),
        "batch_size": 64, "cutout": 4,
    },
    "seed": {
        "model.filters": (6, 8), "model.pool_after": (1, 2), "model.dense_units": 16,
        "batch_size": 64, "crop": 2,
    },
}  # fmt: skip


def begin(name):
    """The training of a recipe before its first update, in float32, on bars placed by class."""
    made = recipe(name, **CHANGES[name], precision="float32", epochs=5)
    random = np.random.RandomState(0)
    labels = random.randint(0, 10, 256).astype("int32")
    images = random.randint(0, 128, (256, 14, 14, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label : label + 4] += 127
    env = {
        "precision": "float32", "shape": [14, 14, 1], "classes": list("0123456789"),
        "mean": 0.5, "deviation": 0.3,
        "micro_batch": 64 if made.batch_statistics else 17,
    }  # fmt: skip
    session = _Session(made, env, Split(images, labels))
    session.updater = session.make_updater(env["micro_batch"])
    return session


def weights_of(session):
    """Its weights as they are now, by their paths."""
    session.updater.variables()
    return {v.path: np.array(v.value) for v in session.model.variables}


def train(session, weights):
    """What the updates make of the weights, and each update's running mean loss."""
    for variable in session.model.variables:
        variable.assign(weights[variable.path])
    losses = [float(session.one_update(update)["loss"]) for update in range(UPDATES)]
    return weights_of(session) | {"losses": np.array(losses)}


def main(folder):
    for name in CHANGES:
        with np.load(folder / f"{name}.npz") as weights:
            np.savez(folder / f"{name}-after.npz", **train(begin(name), weights))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
