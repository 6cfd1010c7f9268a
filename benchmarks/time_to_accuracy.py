"""How accurate, how soon: our recipes beside what one would otherwise run, table and picture.

    pip install torch==2.13.0       # for the PyTorch network only; left out where it is missing
    python benchmarks/time_to_accuracy.py --seconds 600 --out records/DATE-time-to-accuracy

All learn the same 55,000 images and are scored on the same val and, once, at their end, on test.
Each is a process of its own and they take turns, never two at once, so that a busy moment of the
machine touches them all. Seconds count from the first update, compilation included, scoring and
waiting not. Our recipes run to their end, the others for `--seconds`:

keras     Keras' introductory convolutional network (32 and 64 filters, 34,826 parameters), Adam,
          `fit` as it comes: float32, batches of 32
reference the reference model (57,288,202 parameters) likewise
pytorch   a ResNet-9 as in CIFAR-10's speed runs (David Page's, 6.6 million parameters), channels
          last, bfloat16 autocast where that is faster here than float32, SGD with Nesterov
          momentum, batch 128, one triangle of the rate over the seconds that it has, crop, flip
          and cutout
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.data.load import load_data
from fmnist.data.splits import Data

OURS = ("quick", "tiny", "standard")
OTHERS = ("keras", "pytorch", "reference")
SCORINGS = 8  # of val, in the seconds that the others have

Predict = Callable[[NDArray[np.uint8]], NDArray[Any]]


class Turns:
    """A contender's side: a clock that stands still while it is scored or another has its turn."""

    def __init__(self, seconds: float, scorings: int = SCORINGS) -> None:
        self.seconds, self.interval = seconds, seconds / scorings
        self.spent, self.scored, self.begin = 0.0, 0.0, 0.0

    def start(self) -> None:
        """Wait for the turn, then let the clock go on."""
        sys.stdin.readline()
        self.begin = time.perf_counter()

    @property
    def share(self) -> float:
        """How much of the seconds is over."""
        return (self.spent + time.perf_counter() - self.begin) / self.seconds

    def over(self, predict: Predict, data: Data) -> bool:
        """Score val if it is time to, and hand over; whether all the seconds are gone."""
        now = self.spent + time.perf_counter() - self.begin
        if now - self.scored < self.interval:
            return False
        self.spent = self.scored = now
        over = now >= self.seconds
        tell(not over, seconds=now, val=accuracy(predict, data.val))
        if not over:
            self.start()
        return over


def tell(waits: bool, **values: Any) -> None:
    """A line for the process that hands out the turns, and whether this one waits for its next."""
    print("=" + json.dumps({"waits": waits, **values}), flush=True)


def accuracy(predict: Predict, split: Any) -> float:
    """The share of `split` that is classified as labelled."""
    return float(np.mean(predict(split.images).argmax(axis=1) == split.labels))


def by_fit(name: str, data: Data, turns: Turns) -> None:
    """A Keras network through `fit`, nothing set that need not be."""
    import keras

    from fmnist.engine import augment, networks
    from fmnist.recipes import shipped

    if name == "reference":
        # Ours takes its draws from the update's number, which fit alone does not give it.
        model = keras.models.clone_model(
            networks.build(shipped.recipe("reference", precision="float32", flip=False)),
            clone_function=lambda layer: (
                keras.layers.Dropout(layer.rate)
                if isinstance(layer, augment.Dropout)
                else type(layer).from_config(layer.get_config())
            ),
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        model = keras.Sequential(
            [
                keras.layers.Input((28, 28, 1)),
                keras.layers.Conv2D(32, 3, activation="relu"),
                keras.layers.MaxPooling2D(2),
                keras.layers.Conv2D(64, 3, activation="relu"),
                keras.layers.MaxPooling2D(2),
                keras.layers.Flatten(),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy()

    def predict(images: NDArray[np.uint8]) -> NDArray[Any]:
        return np.asarray(model.predict(images / np.float32(255), verbose=0))

    class Hand(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if turns.over(predict, data):
                model.stop_training = True

    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    x, y = data.train.images / np.float32(255), data.train.labels
    tell(True, parameters=model.count_params())
    turns.start()
    model.fit(x, y, epochs=10_000, verbose=0, callbacks=[Hand()])
    tell(False, test=accuracy(predict, data.test.open()), views="one")


def by_pytorch(data: Data, turns: Turns) -> None:
    """A residual network of nine layers in PyTorch, as one would port it."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    def block(before: int, after: int, pool: bool = False) -> Any:
        layers = [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
        return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))

    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self, width: int) -> None:
            super().__init__()
            self.body = nn.Sequential(block(width, width), block(width, width))

        def forward(self, x: Any) -> Any:
            return x + self.body(x)

    model = nn.Sequential(
        block(1, 64),
        block(64, 128, True),
        Residual(128),
        block(128, 256, True),
        block(256, 512, True),
        Residual(512),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(512, 10, bias=False),
    ).to(memory_format=torch.channels_last)
    mean, deviation = 0.286, 0.353

    def standard(images: NDArray[np.uint8]) -> Any:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        return ((x - mean) / deviation).contiguous(memory_format=torch.channels_last)

    def forward(x: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            return model(x).float() / 8

    def predict(images: NDArray[np.uint8]) -> NDArray[Any]:
        model.eval()
        with torch.no_grad():
            parts = [forward(standard(images[i : i + 500])) for i in range(0, len(images), 500)]
        model.train()
        return np.asarray(torch.cat(parts).numpy())

    random = np.random.RandomState(0)

    def batch(index: NDArray[Any]) -> Any:
        x = np.pad(data.train.images[index], ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        out = np.empty((len(index), 28, 28, 1), np.uint8)
        corners, places = random.randint(0, 5, (len(x), 2)), random.randint(0, 21, (len(x), 2))
        mirror = random.randint(0, 2, len(x))
        for i, ((dy, dx), (top, left)) in enumerate(zip(corners, places, strict=True)):
            image = x[i, dy : dy + 28, dx : dx + 28]
            out[i] = image[:, ::-1] if mirror[i] else image
            out[i, top : top + 8, left : left + 8] = round(255 * mean)
        return standard(out)

    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    loss = nn.CrossEntropyLoss()
    labels = torch.from_numpy(data.train.labels.astype(np.int64))
    # Not every processor that has bfloat16 is quick in it: what our precision `auto` measures too.
    mixed, times = True, {}
    for mixed in (True, False):
        for _ in range(3):  # the last counts
            begin = time.process_time()
            loss(forward(batch(np.arange(128))), labels[:128]).backward()
            times[mixed] = time.process_time() - begin
    mixed = times[True] < times[False]
    tell(
        True,
        parameters=sum(p.numel() for p in model.parameters()),
        precision="bfloat16" if mixed else "float32",
    )
    turns.start()
    while True:
        order = random.permutation(len(labels))
        for start in range(0, len(order) - 127, 128):
            index = order[start : start + 128]
            done = min(turns.share, 1.0)
            optimizer.param_groups[0]["lr"] = 0.1 * min(done / 0.2, (1 - done) / 0.8)
            optimizer.zero_grad()
            loss(forward(batch(index)), labels[index]).backward()
            optimizer.step()
            if turns.over(predict, data):
                tell(False, test=accuracy(predict, data.test.open()), views="one")
                return


def by_recipe(name: str, data: Data) -> None:
    """One of our recipes, as `fmnist train NAME --test` runs it."""
    from fmnist.recipes import shipped
    from fmnist.scoring.evaluate import evaluate
    from fmnist.training.progress import Progress
    from fmnist.training.train import train

    class Hand(Progress):
        def start(self, run: Any, recipe: Any, env: Any, updates: int, done: int) -> None:
            tell(True, parameters=env["parameters"])
            sys.stdin.readline()

        def epoch(self, line: dict[str, Any]) -> None:
            waits = line["epoch"] < recipe.epochs
            tell(waits, seconds=line["seconds"], val=line["val_accuracy"])
            if waits:
                sys.stdin.readline()

    recipe = shipped.recipe(name)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        run = train(recipe, data, folder, progress=Hand("none"))
        test = evaluate(run, data.test)
    tell(False, test=test.accuracy, views=recipe.views)


def contend(name: str, seconds: float) -> None:
    """Be a contender."""
    data = load_data()
    if name in OURS:
        by_recipe(name, data)
    elif name == "pytorch":
        by_pytorch(data, Turns(seconds))
    else:  # to score val with the reference model in float32 takes minutes
        by_fit(name, data, Turns(seconds, 2 if name == "reference" else SCORINGS))


class Contender:
    """A contender as the one who hands out the turns sees it."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.points: list[tuple[float, float]] = []
        self.facts: dict[str, Any] = {}
        self.complaints = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--contender", name, "--seconds", str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            text=True,
            env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        )
        self.listen()  # until it is ready

    def listen(self) -> None:
        """Read up to the next time that it waits, or its end."""
        assert self.process.stdout
        for line in self.process.stdout:
            if not line.startswith("="):
                continue
            said = json.loads(line[1:])
            waits = said.pop("waits")
            if "val" in said:
                self.points.append((said["seconds"], said["val"]))
                print(
                    f"{self.name:<10}{said['seconds']:>7.0f} s  val {said['val']:.2%}", flush=True
                )
            else:
                self.facts |= said
            if waits:
                return
        if self.process.wait() or "test" not in self.facts:
            self.complaints.seek(0)
            sys.stderr.write(self.complaints.read()[-2000:])
            raise SystemExit(f"{self.name}: ended with exit code {self.process.returncode}")

    def turn(self) -> None:
        """Let it run until it waits again; the last one ends with the test's score."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.listen()


def picture(contenders: list[Contender], path: Path) -> None:
    """Val accuracy against seconds, test at the end of each curve."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for contender in contenders:
        ours = contender.name in OURS
        seconds, val = zip(*contender.points, strict=True)
        (curve,) = axes.plot(
            seconds,
            [100 * v for v in val],
            "-" if ours else "--",
            marker=".",
            label=f"{contender.name}: test {contender.facts['test']:.2%}",
        )
        test = 100 * contender.facts["test"]
        axes.plot(seconds[-1], test, "o", color=curve.get_color(), markersize=8)
    axes.set(
        xscale="log",
        xlabel="seconds of training on two cores",
        ylabel="accuracy, %",
        ylim=(78, 96.5),
        xticks=(30, 60, 120, 300, 600, 1200),
        title="Val accuracy while training, and test (dot) at the end",
    )
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--only", help="names separated by commas")
    parser.add_argument("--out", type=Path, help="folder for curves.jsonl and curves.png")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.contender:
        contend(asked.contender, asked.seconds)
        return
    names = [n for n in OURS + OTHERS if not asked.only or n in asked.only.split(",")]
    if "pytorch" in names and importlib.util.find_spec("torch") is None:
        print("pytorch: left out, torch is not installed", file=sys.stderr)
        names.remove("pytorch")
    contenders = [Contender(name, asked.seconds) for name in names]
    waiting = list(contenders)
    while waiting:  # whose clock is behind goes next
        contender = min(waiting, key=lambda c: c.points[-1][0] if c.points else 0)
        contender.turn()
        if contender.process.poll() is not None:
            waiting.remove(contender)
    print(f"{'':<10}{'parameters':>12}{'seconds':>9}{'val':>8}{'test':>9}  views")
    for contender in contenders:
        facts, (seconds, val) = contender.facts, contender.points[-1]
        print(
            f"{contender.name:<10}{facts['parameters']:>12,}{seconds:>9.0f}{val:>8.2%}"
            f"{facts['test']:>9.2%}  {facts['views']}"
        )
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"name": c.name, "points": c.points, **c.facts}) for c in contenders]
        (asked.out / "curves.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        picture(contenders, asked.out / "curves.png")


if __name__ == "__main__":
    main()
