"""Peak resident memory of the reference model's update, against Keras' plain `fit`.

    python benchmarks/memory.py [--memory 4GB] [--updates 4]

Each row is a process of its own, measured from its start to its end, TensorFlow included: the
recipe `reference` as shipped (logical batch 128, AdamW) through `fmnist train --memory`, the whole
command with validation and saving, and the same network, batch, optimiser and precision through
`model.fit`. Images are made up: memory does not depend on what they show.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FIT = """
import sys, numpy as np
from fmnist import system
from fmnist.engine import networks, optimizers
from fmnist.recipes.shipped import recipe
from fmnist.training.task import cross_entropy

updates, precision = int(sys.argv[1]), sys.argv[2]
# fmnist's random layers draw from fmnist's update, so fit has them switched off.
chosen = recipe("reference", precision=precision, crop=0, flip=False, **{"model.dropout": 0})
model = networks.build(chosen)
model.compile(optimizer=optimizers.build(chosen, updates), loss=cross_entropy(0.1),
              metrics=["accuracy"])
n = updates * chosen.batch_size
x = np.random.RandomState(0).normal(size=(n, 28, 28, 1)).astype("float32")
model.fit(x, np.arange(n) % 10, batch_size=chosen.batch_size, epochs=1, verbose=0)
print(system.peak())
"""


def write_set(folder: Path, train: int) -> None:
    random = np.random.RandomState(0)
    for name, n in (("train", train), ("t10k", 100)):
        for kind, array in (
            ("images-idx3", random.randint(0, 256, (n, 28, 28), dtype=np.uint8)),
            ("labels-idx1", (np.arange(n) % 10).astype(np.uint8)),
        ):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--updates", type=int, default=4)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        data, run = Path(place) / "data", Path(place) / "run"
        data.mkdir()
        write_set(data, -(-128 * options.updates * 12 // 11))
        command = [sys.executable, "-m", "fmnist", "train", "reference", "--set", "epochs=1"]
        command += ["--data", str(data), "--run", str(run), "--memory", options.memory, "--json"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        env = json.loads((run / "env.json").read_text())
        peak = json.loads(out)["metrics"]["peak_memory"]
        rows.append((f"fmnist train reference --memory {options.memory}", env["micro_batch"], peak))
    for precision in (env["precision"], "float32"):
        done = subprocess.run(
            [sys.executable, "-c", FIT, str(options.updates), precision],
            check=True,
            capture_output=True,
            text=True,
        )
        rows.append((f"model.fit, {precision}", 128, int(done.stdout.split()[-1])))
    print(f"{'what':<36} {'at once':>8} {'peak':>9}   (reference, batch 128, {env['device']})")
    for what, size, peak in dict.fromkeys(rows):
        print(f"{what:<36} {size:>8} {peak / 1e9:>6.2f} GB")


if __name__ == "__main__":
    main()
