"""Train a recipe over seeds as results are recorded, and write the record.

    python tools/record.py standard --seeds 3 --out records/2026-11-23-standard

Every seed is a process of its own, `fmnist train RECIPE --set seed=N --fit-on all --test`, into
`runs/record-RECIPE-seedN`; `--fit-on train` keeps val apart, as `make train` does. A finished run
that is there is taken as it is, an unfinished one goes on from its checkpoint: with `--minutes` the
command stops in time, and the same command goes on. The record gets a line a seed in
`results.jsonl`, and seed 0 as a run folder of its own: recipe, environment, learning curve, weights
in float16 with the score that they have in that form. Seed 0 was settled beforehand: test is not
for choosing.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmnist import files
from fmnist.data.load import load_data
from fmnist.exports.weight_parts import portable_env
from fmnist.runs.run import Run
from fmnist.scoring.evaluate import evaluate

LARGEST = 8 * 10**6  # bytes of weights that are committed


class Trainer:
    """Trains seeds of a recipe into `place`; stops before `minutes` are over."""

    def __init__(
        self,
        recipe: str,
        teachers: Sequence[str] = (),
        settings: Sequence[str] = (),
        place: Path = Path("runs"),
        minutes: float = 10**6,
        fit_on: str = "all",
        photos: str | None = None,
    ) -> None:
        self.recipe, self.place, self.end = recipe, place, time.monotonic() + 60 * minutes
        self.options = ["--fit-on", fit_on]
        self.options += [word for setting in settings for word in ("--set", setting)]
        self.options += [word for teacher in teachers for word in ("--teacher", teacher)]
        self.options += ["--photos", photos] if photos else []

    def run(self, seed: int) -> Run:
        """The finished, tested run of a seed."""
        folder = self.place / f"record-{self.recipe}-seed{seed}"
        if not folder.exists():
            self.fmnist(
                "train",
                self.recipe,
                *self.options,
                "--set",
                f"seed={seed}",
                "--test",
                "--run",
                folder,
                "--checkpoint-seconds",
                120,
            )
        run = Run(folder)
        if not run.weights_path.exists():
            self.fmnist("train", "--resume", folder, "--test", "--checkpoint-seconds", 120)
        if "test" not in run.scores:
            self.fmnist("evaluate", folder, "--split", "test")
        return Run(folder)  # with the scores that another process wrote

    def fmnist(self, *arguments: object) -> None:
        """An fmnist command, told to stop where the time is up."""
        process = subprocess.Popen([sys.executable, "-m", "fmnist", *map(str, arguments)])
        try:
            code = process.wait(max(self.end - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.terminate()  # training keeps a checkpoint
            process.wait()
            raise SystemExit("the time is up; the same command goes on") from None
        if code:
            raise SystemExit(code)


def result(run: Run) -> dict[str, Any]:
    """A seed's line in `results.jsonl`."""
    score, last = run.scores["test"], run.metrics()[-1]
    kept = ("n", "correct", "accuracy", "loss", "expected_calibration_error", "views")
    return {
        "seed": run.recipe.seed,
        **{key: score[key] for key in kept},
        "interval": [round(x, 5) for x in score["interval"]],
        "times_opened": run.times_opened(),
        "seconds": last["seconds"],
        **{key: value for key, value in last.items() if key.startswith("peak_")},
        "parameters": run.env["parameters"],
        "commit": run.env["commit"],
        "dirty": run.env["dirty"],
        "weights_sha256": files.sha256(run.weights_path),
    }


def copy(run: Run, out: Path) -> None:
    """Seed 0's run without what is large or of this machine, its weights halved and scored."""
    files.write_json(out / "env.json", portable_env(run))
    files.write_json(out / "recipe.json", run.recipe_json)  # as its weights were trained by
    (out / "metrics.jsonl").write_bytes((run.path / "metrics.jsonl").read_bytes())
    arrays, about = run.load_weights(), run.about_weights()
    if sum(a.size for a in arrays.values()) * 2 > LARGEST:
        return
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    half = Run(out)
    half.save_weights(halves, about | {"form": about["form"] + ", float16"})
    score = evaluate(half, load_data().test)
    (out / "test_logits.npz").unlink()  # large, and made again by whoever scores the weights
    print(f"float16 weights, {half.weights_path.stat().st_size / 1e6:.2f} MB: {score.headline()}")


def record(trainer: Trainer, seeds: int, out: Path) -> list[Run]:
    """Train the seeds, write their record and print what it says; the runs."""
    out.mkdir(parents=True, exist_ok=True)
    made: list[Run] = []
    lines = []
    for seed in range(seeds):
        made.append(trainer.run(seed))
        lines.append(result(made[-1]))
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (out / "results.jsonl").write_text(text, encoding="utf-8")
    copy(made[0], out)
    accuracy = [100 * line["accuracy"] for line in lines]
    spread = f", standard deviation {statistics.stdev(accuracy):.2f}" if len(lines) > 1 else ""
    seconds = sorted(line["seconds"] for line in lines)
    print(
        f"{trainer.recipe}: test {statistics.mean(accuracy):.2f} %{spread}, range "
        f"{min(accuracy):.2f}-{max(accuracy):.2f} (seeds 0-{seeds - 1}, "
        f"n={lines[0]['n']:,} each); seconds "
        f"median {statistics.median(seconds):.0f}, range {seconds[0]:.0f}-{seconds[-1]:.0f}; "
        f"calibration error {statistics.mean(x['expected_calibration_error'] for x in lines):.1%}; "
        f"peak memory {max(x['peak_memory'] or 0 for x in lines) / 1e9:.2f} GB; "
        f"{lines[0]['parameters']:,} parameters"
    )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher", action="append", default=[])
    parser.add_argument("--photos", default=None)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--fit-on", choices=("all", "train"), default="all")
    parser.add_argument("--minutes", type=float, default=10**6)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    trainer = Trainer(
        asked.recipe,
        asked.teacher,
        asked.settings,
        minutes=asked.minutes,
        fit_on=asked.fit_on,
        photos=asked.photos,
    )
    record(trainer, asked.seeds, asked.out)


if __name__ == "__main__":
    main()
