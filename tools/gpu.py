"""All that is to be measured on one GPU, in stages that can be cut off and gone on with.

    python tools/gpu.py --out records/DATE-gpu                  # every stage
    python tools/gpu.py strong-gpu --minutes 9 --out …          # stops in time; again goes on
    python tools/gpu.py strong-gpu --set epochs=70 --out …      # fields of strong-gpu changed

rate        images per second of the bare update of `reference` and `strong-gpu`, and its
            convolutions' and matrices' operations (a product and a sum as two, backward as twice
            forward) as a share of the rate of 8192×8192 matrix products in bfloat16, by turns
reference   the reference model end to end, three seeds: a record as of `record.py`
strong-gpu  likewise; then the mean of the three as an ensemble, scored, and its logits for the
            training images as they are and mirrored, float16 (2, 60000, 10), for a student
tests       pytest -m accelerator

It runs on JAX, which keeps what it compiles in `runs/gpu/compiled` for the next seed. Run folders
lie in `runs/gpu`. `--small` shrinks the networks and trains one epoch, to try all stages on a
processor; its figures mean nothing.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path("runs/gpu/compiled").resolve()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import numpy as np
from record import Trainer, record

from fmnist.data.load import load_data
from fmnist.data.splits import mean_and_deviation
from fmnist.engine import backend, precision
from fmnist.files import write_json, write_whole
from fmnist.recipes.shipped import parse_settings, recipe
from fmnist.runs.run import Run
from fmnist.scoring.evaluate import compile_forward, evaluate, load_model
from fmnist.scoring.views import predict_logits
from fmnist.training import trainer as training
from fmnist.training.ensemble import ensemble
from fmnist.training.task import Task

SMALL = {
    "reference": ["model.filters=4,8", "model.pool_after=1,2", "model.dense_units=16", "epochs=1"],
    "strong-gpu": ["model.depth=10", "model.width=1", "epochs=1"],
}
STAGES = ("rate", "reference", "strong-gpu", "tests")


def rate(asked: argparse.Namespace, updates: int = 50, rounds: int = 5) -> None:
    """The bare update, as training runs it: several handed over before the first is read."""
    # What training has: what is compiled here then serves it too.
    split = load_data().fitting("all")
    mean, deviation = mean_and_deviation(split.images)
    subjects: dict[str, Any] = {}
    for name, settings in SMALL.items():
        chosen = recipe(name, **parse_settings(settings if asked.small else []))
        env = {
            "precision": precision.resolve_precision(chosen.precision),
            "shape": [28, 28, 1],
            "classes": list(range(10)),
            "mean": mean,
            "deviation": deviation,
            "micro_batch": chosen.batch_size,
        }
        subjects[name] = training.Trainer(Task(chosen, env, split), chosen.batch_size)
    updates = 5 if asked.small else updates
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    products = []
    for _ in range(rounds + 1):
        products.append(precision.product_rate("bfloat16"))
        for name, trainer in subjects.items():
            batch = trainer.task.recipe.batch_size
            begin = time.perf_counter()
            for update in range(updates):
                index = np.arange(update * batch, (update + 1) * batch) % len(trainer.task.images)
                logs = trainer.updater(index)
            float(logs["loss"])  # waits for the last, and so for all
            seconds[name].append((time.perf_counter() - begin) / updates)
    product = statistics.median(products)
    measured: dict[str, Any] = {
        "device": backend.device(),
        "versions": backend.versions(),
        "bfloat16_products_per_second": product,
    }
    print(f"{backend.device()}: matrix products in bfloat16 at {product / 1e12:.1f} TFLOP/s")
    for name, trainer in subjects.items():
        each = statistics.median(seconds[name][1:])  # the first compiles
        images = trainer.task.recipe.batch_size / each
        achieved = 3 * images * trainer.task.recipe.options.operations((28, 28, 1), 10)
        measured[name] = {"images_per_second": images, "share_of_products": achieved / product}
        print(
            f"{name}: {images:,.0f} images/s, {1000 * each:.2f} ms an update, "
            f"{achieved / 1e12:.2f} TFLOP/s, {achieved / product:.0%} of the products"
        )
    write_json(asked.out / "rate.json", measured)


def train(name: str, asked: argparse.Namespace) -> list[Run]:
    """A recipe's record, in a folder beside that of the rest: `DATE-gpu-reference`."""
    place = Path("runs", "gpu-small" if asked.small else "gpu")
    settings = SMALL[name] if asked.small else []
    settings = [*settings, *(asked.settings if name == "strong-gpu" else [])]
    trainer = Trainer(name, settings=settings, place=place, minutes=asked.minutes)
    return record(trainer, asked.seeds, asked.out.with_name(f"{asked.out.name}-{name}"))


def combine(members: list[Run], asked: argparse.Namespace) -> None:
    """The members' ensemble: its score, and its logits for the training images."""
    data, folder = load_data(), members[0].path.parent / "ensemble"
    made = Run(folder) if folder.exists() else ensemble(members, folder, equal=True)
    if "test" not in made.scores:
        evaluate(made, data.test)
    write_json(asked.out / "ensemble.json", made.scores["test"])
    score = made.scores["test"]
    print(f"ensemble of {len(members)}: test {score['accuracy']:.2%}, n={score['n']:,}")
    if (taught := asked.out / "teacher_logits.npz").exists():
        return
    model, about = load_model(made)
    forward = compile_forward(model, about["mean"], about["deviation"])
    images = data.fitting("all").images
    logits = [predict_logits(forward, each) for each in (images, images[:, :, ::-1])]
    halves = np.stack(logits).astype(np.float16)

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, logits=halves, data_hash=data.hash)

    write_whole(taught, write)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings", help="of strong-gpu")
    parser.add_argument("--minutes", type=float, default=10**6)
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    stages = asked.stages or STAGES
    if unknown := {*stages} - {*STAGES}:
        parser.error(f"stages: expected {', '.join(STAGES)}, received {', '.join(unknown)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    if len(stages) > 1:
        run_each(stages, asked)
    elif stages == ["rate"]:
        rate(asked)
    elif stages == ["tests"]:
        tests = "tests/engine/test_accelerator.py"
        command = [sys.executable, "-m", "pytest", "-m", "accelerator", tests]
        raise SystemExit(subprocess.run(command, check=False).returncode)
    else:
        members = train(stages[0], asked)
        if stages == ["strong-gpu"]:
            combine(members, asked)


def run_each(stages: Sequence[str], asked: argparse.Namespace) -> None:
    """A process each: one that has used a GPU leaves no room on it for the next."""
    end = time.monotonic() + 60 * asked.minutes
    options = ["--out", str(asked.out), "--seeds", str(asked.seeds)]
    options += ["--small"] if asked.small else []
    options += [word for setting in asked.settings for word in ("--set", setting)]
    for stage in stages:
        left = (end - time.monotonic()) / 60
        command = [sys.executable, __file__, stage, *options, "--minutes", str(left)]
        if code := subprocess.run(command, check=False).returncode:
            raise SystemExit(code)


if __name__ == "__main__":
    main()
