"""How fast recipes train: images per second of the bare update, and where its time goes.

    python benchmarks/steps.py [quick tiny standard reference] [--updates 20] [--rounds 3]

An update goes from images in memory to a finished optimiser step and its loss as a number, batching
and augmentation included. Beside it stand its convolutions' and matrices' floating-point operations
(a product and a sum count as two, backward as twice forward), as a share of the rate at which this
machine multiplies 4096×4096 matrices in the recipe's precision. Shares of the update's time: in
which convolutions run by TensorFlow's profiler, batching and augmentation ("input") and the
optimiser by running them alone, and what is left: norms, activations, pooling, dense layers, loss.
"in Keras": the same network with Keras' own batch normalisation, RandomFlip and RandomTranslation
(of whole batches' worth of images, in a tf.data pipeline as its guides have it), its Adam, through
`fit`; for the compact networks only. Rounds are interleaved over the recipes; figures are medians.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fmnist.data.splits import Split
from fmnist.engine import augment, keras, networks
from fmnist.engine.precision import policy, resolve_precision
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import recipe
from fmnist.training.task import Task
from fmnist.training.trainer import Trainer, epoch_order
from fmnist.training.update import MicroBatched

IMAGES = 4096
SECONDS = 6.0  # at most, of a measurement


def operations(chosen: Recipe) -> int:
    """Floating-point operations of an image's convolutions and matrix products, forward."""
    return chosen.options.operations((28, 28, 1), 10)


def made_up() -> Split:
    """Images of noise: speed does not depend on what they show."""
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (IMAGES, 28, 28, 1), dtype=np.uint8)
    return Split(images, random.randint(0, 10, IMAGES, dtype=np.int32))


def seconds_of(call: Callable[[], object], repeats: int) -> float:
    """Seconds a call, the mean of some."""
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


@functools.cache
def product(precision: str) -> Callable[[], object]:
    """A 4096×4096 matrix product in a precision."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((4096, 4096)), precision)
    compiled = tf.function(lambda: tf.reduce_sum(matrix @ matrix))
    compiled().numpy()
    return lambda: compiled().numpy()


class Subject:
    """A recipe under measurement."""

    def __init__(self, chosen: Recipe) -> None:
        self.recipe, split = chosen, made_up()
        self.precision = resolve_precision(chosen.precision)
        size = chosen.micro_batch or chosen.batch_size
        env = {
            "precision": self.precision,
            "shape": [28, 28, 1],
            "classes": list(range(10)),
            "mean": 0.5,
            "deviation": 0.3,
            "micro_batch": size,
        }
        self.trainer = Trainer(Task(chosen, env, split), size)
        self.update, self.times, self.input, self.apply = 0, [], [], []
        self.augment = self._augmentation()
        self.optimise = self._optimiser()

    def _augmentation(self) -> Callable[[], object]:
        import tensorflow as tf

        chain, batch = networks.augmentation(self.recipe), self.recipe.batch_size

        @tf.function
        def run(images: Any, update: Any) -> Any:
            x = augment.standardise(images, 0.5, 0.3)
            with augment.step(0, update, tf.range(batch)):
                for layer in chain:
                    x = layer(x, training=True)
            return tf.reduce_sum(x)

        index = epoch_order(0, 0, IMAGES)[:batch]  # once an epoch, so no part of a step

        def call() -> None:
            run(self.trainer.task.images[index], tf.constant(self.update)).numpy()

        return call

    def _optimiser(self) -> Callable[[], object]:
        import tensorflow as tf

        wrapped: MicroBatched = self.trainer.updater.model
        gradients = [tf.ones_like(v.value) for v in wrapped.trainable_variables]

        @tf.function
        def run() -> None:
            wrapped.optimizer.apply(gradients, wrapped.trainable_variables)

        return run

    def convolutions(self, updates: int = 3) -> float:
        """Seconds of an update in which a convolution runs, forward or backward.

        By TensorFlow's profiler. Two may run side by side, each longer for it: they count once.
        """
        import tensorflow as tf
        from tensorflow.tsl.profiler.protobuf import xplane_pb2

        with tempfile.TemporaryDirectory() as place:
            tf.profiler.experimental.start(place)
            for _ in range(updates):
                self.step()
            tf.profiler.experimental.stop()
            space = xplane_pb2.XSpace()
            (trace,) = Path(place).rglob("*.xplane.pb")
            space.ParseFromString(trace.read_bytes())
        spans = sorted(
            (begin := 1000 * line.timestamp_ns + event.offset_ps, begin + event.duration_ps)
            for plane in space.planes
            for line in plane.lines
            for event in line.events
            if "Conv2D" in plane.event_metadata[event.metadata_id].name.rpartition(":")[2]
        )
        busy = until = 0
        for begin, end in spans:
            busy += max(0, end - max(begin, until))
            until = max(until, end)
        return busy / 1e12 / updates

    def warm(self) -> None:
        for _ in range(3):
            self.step()
        self.augment()
        self.optimise()

    def step(self) -> None:
        """One update. The order starts anew before it comes to the short batch at its end."""
        float(self.trainer.step(self.update)["loss"])
        self.update = (self.update + 1) % (IMAGES // self.recipe.batch_size)

    def measure(self, updates: int) -> None:
        updates = max(1, min(updates, round(SECONDS / seconds_of(self.step, 1))))
        self.times.append(seconds_of(self.step, updates))
        self.input.append(seconds_of(self.augment, updates))
        self.apply.append(seconds_of(self.optimise, updates))


def through_fit(chosen: Recipe, images: int) -> float:
    """Images a second of the same network made of Keras' own parts, through `fit`."""
    import tensorflow as tf

    with policy(resolve_precision(chosen.precision)):
        layers = [keras.layers.Input((28, 28, 1)), keras.layers.Rescaling(1 / 255)]
        for i, filters in enumerate(chosen.options.filters):
            layers.append(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False))
            if i + 1 in chosen.options.pool_after:
                layers.append(keras.layers.MaxPooling2D(2))
            layers += [keras.layers.BatchNormalization(), keras.layers.ReLU()]
        layers += [keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(10, dtype="float32")]
        model = keras.Sequential(layers)
    chain = [keras.layers.RandomFlip("horizontal")] if chosen.flip else []
    if chosen.crop:
        share = chosen.crop / 28
        chain.append(keras.layers.RandomTranslation(share, share, fill_mode="nearest"))
    split = made_up()
    x = np.resize(split.images, (images, 28, 28, 1))
    pipeline = tf.data.Dataset.from_tensor_slices((x, np.resize(split.labels, images)))
    pipeline = pipeline.shuffle(images).batch(chosen.batch_size, drop_remainder=True)
    for layer in chain:
        pipeline = pipeline.map(
            lambda x, y, layer=layer: (layer(x, training=True), y), tf.data.AUTOTUNE
        )
    pipeline = pipeline.prefetch(tf.data.AUTOTUNE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"], jit_compile=False)
    ends: list[float] = []
    noted = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
    )
    model.fit(pipeline, verbose=0, callbacks=[noted])
    # The first batches wait for compiling and the pipeline; and taking that down is no training.
    ends = ends[3:]
    return chosen.batch_size * (len(ends) - 1) / (ends[-1] - ends[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=["quick", "tiny", "standard", "reference"])
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fit", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.fit:  # in a process of its own: `fit` with tf.data has threads of its own
        print(json.dumps(through_fit(recipe(asked.fit), 20 * 128)))
        return
    subjects = {name: Subject(recipe(name)) for name in asked.recipes}
    for subject in subjects.values():
        subject.warm()
    rates: dict[str, list[float]] = {}
    fits: dict[str, list[float]] = {
        name: [] for name, subject in subjects.items() if subject.recipe.model == "compact"
    }
    for _ in range(asked.rounds):
        for name, subject in subjects.items():
            seconds = seconds_of(product(subject.precision), 3)
            rates.setdefault(subject.precision, []).append(2 * 4096**3 / seconds)
            subject.measure(asked.updates)
            if name not in fits:
                continue
            done = subprocess.run(
                [sys.executable, __file__, "--fit", name],
                check=True,
                capture_output=True,
                text=True,
                env=os.environ | {"KERAS_BACKEND": "tensorflow"},
            )
            fits[name].append(json.loads(done.stdout.splitlines()[-1]))
    for precision, values in rates.items():
        print(f"matrix product, {precision}: {statistics.median(values) / 1e9:.0f} GFLOP/s")
    print(
        f"{'recipe':<10}{'images/s':>10}{'ms/update':>11}{'GFLOP/s':>9}{'of product':>12}"
        f"{'convolutions':>14}{'input':>8}{'optimiser':>11}{'rest':>7}{'in Keras':>10}{'ratio':>7}"
    )
    for name, subject in subjects.items():
        seconds = statistics.median(subject.times)
        batch = subject.recipe.batch_size
        rate = 3 * batch * operations(subject.recipe) / seconds
        parts = [
            subject.convolutions() / seconds,
            statistics.median(subject.input) / seconds,
            statistics.median(subject.apply) / seconds,
        ]
        fit = f"{'':>10}{'':>7}"
        if name in fits:
            images = statistics.median(fits[name])
            fit = f"{images:>10,.0f}{batch / seconds / images:>7.2f}"
        print(
            f"{name:<10}{batch / seconds:>10,.0f}{1000 * seconds:>11.1f}{rate / 1e9:>9.0f}"
            f"{rate / statistics.median(rates[subject.precision]):>12.0%}"
            f"{parts[0]:>14.1%}{parts[1]:>8.1%}{parts[2]:>11.1%}{1 - sum(parts):>7.1%}{fit}"
        )


if __name__ == "__main__":
    main()
