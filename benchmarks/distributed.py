"""What an update costs beside its arithmetic when several processes share its images.

    python benchmarks/distributed.py [--updates 30] [--rounds 3]

Every process has one core of this machine, in turn, and they meet over loopback. "alone" is one
process that does on one core what each core has to do of the batch of 128, without anybody to wait
for; "overhead" is what is on top of that with 2 and with 4 processes: handing over the gradients
and statistics, waiting, and with more processes than cores changing between them. Milliseconds an
update, from the images' numbers to the loss as a number; medians, rounds by turns.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

RECIPES: dict[str, dict[str, Any]] = {
    "quick": {},
    "standard": {},
    # Little arithmetic for 7.9 million parameters: gradients of 32 MB.
    "reference": {
        "model.filters": (4, 8),
        "model.pool_after": (1, 2),
        "model.dense_units": 19_600,
        "crop": 0,
        "flip": False,
    },
}
BATCH = 128


def work(name: str, batch: int, count: int, number: int, port: int, updates: int) -> None:
    """Be one of the processes; the first prints the milliseconds of an update."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    os.environ["KERAS_BACKEND"] = "jax"
    import numpy as np

    from fmnist.data.splits import Split
    from fmnist.engine import distributed
    from fmnist.recipes.shipped import recipe
    from fmnist.training.task import Task
    from fmnist.training.trainer import Trainer

    if count > 1:
        distributed.initialise(f"127.0.0.1:{port}", count, number)
    made = recipe(name, **RECIPES[name], batch_size=batch, precision="float32")
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (batch * 8, 28, 28, 1), dtype=np.uint8)
    env = {
        "precision": "float32",
        "shape": [28, 28, 1],
        "classes": list(range(10)),
        "mean": 0.5,
        "deviation": 0.3,
        "micro_batch": batch,
    }
    labels = random.randint(0, 10, len(images), dtype=np.int32)
    trainer = Trainer(Task(made, env, Split(images, labels)), batch)
    times = []
    for update in range(updates + 3):
        begin = time.perf_counter()
        float(trainer.step(update)["loss"])
        times.append(time.perf_counter() - begin)
    if number == 0:
        parameters = trainer.model.count_params()
        print(json.dumps([1000 * statistics.median(times[3:]), parameters]))


def measure(name: str, batch: int, count: int, updates: int) -> tuple[float, int]:
    """Milliseconds of an update of `batch` images over `count` processes, and the parameters."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                __file__,
                "--work",
                name,
                *map(str, (batch, count, number, port, updates)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    texts = [process.communicate() for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("\n".join(errors[-2000:] for _, errors in texts))
    milliseconds, parameters = json.loads(texts[0][0].splitlines()[-1])
    return milliseconds, parameters


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], *map(int, sys.argv[3:]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    counts = [count for count in (2, 4) if count <= 2 * cores]
    print(
        f"{'recipe':<10}{'parameters':>12}{'gradients':>11}{'processes':>11}{'cores':>7}"
        f"{'ms/update':>11}{'alone':>9}{'overhead':>10}"
    )
    for name in RECIPES:
        found: dict[tuple[int, int], list[float]] = {}
        for _ in range(asked.rounds):
            for count in counts:
                share = BATCH // min(count, cores)
                for key in ((share, 1), (BATCH, count)):
                    milliseconds, parameters = measure(name, *key, asked.updates)
                    found.setdefault(key, []).append(milliseconds)
        for count in counts:
            together = statistics.median(found[BATCH, count])
            alone = statistics.median(found[BATCH // min(count, cores), 1])
            print(
                f"{name:<10}{parameters:>12,}{4 * parameters / 1e6:>8.1f} MB{count:>11}"
                f"{min(count, cores):>7}{together:>11.1f}{alone:>9.1f}{together - alone:>10.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
