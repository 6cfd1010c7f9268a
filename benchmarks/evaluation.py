"""How long it takes to score the 10,000 test images, one view, by recipe.

    python benchmarks/evaluation.py [quick standard reference] [--rounds 3]

Made-up images and untrained weights, since neither changes the time. From uint8 images in memory to
logits, as `fmnist evaluate` does it, and by ONNX Runtime from an int8 file such as `fmnist export`
makes; the first batch, which compiles, is not in it. Rounds are interleaved, figures are medians.
The reference model's author needed 65 s, on a graphics card.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
from steps import operations, product, seconds_of

from fmnist.engine import networks
from fmnist.engine.precision import resolve_precision
from fmnist.exports import onnx_graph, portable
from fmnist.recipes.shipped import recipe
from fmnist.scoring.evaluate import compile_forward
from fmnist.scoring.views import BATCH, predict_logits

IMAGES = 10_000
PIECE = 32  # images of one call of ONNX Runtime, as of `fmnist predict`


def int8(model, name, images, folder):
    """A function that scores images by an int8 file of the network."""
    about = {"shape": (28, 28, 1), "mean": 0.3, "deviation": 0.35, "classes": list("0123456789")}
    path = Path(folder) / f"{name}.onnx"
    network = portable.build(model, recipe(name), about)
    onnx_graph.save(network, path, "int8", images[:100, ..., 0])
    forward = onnx_graph.load(path, 0)
    return lambda: [forward(images[i : i + PIECE, ..., 0]) for i in range(0, IMAGES, PIECE)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=["quick", "standard", "reference"])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    images = np.random.RandomState(0).randint(0, 256, (IMAGES, 28, 28, 1), dtype=np.uint8)
    precision = resolve_precision("auto")
    scorers = {}
    for name in asked.recipes:
        model = networks.build(recipe(name))
        forward = compile_forward(model, 0.3, 0.35)
        predict_logits(forward, images[:BATCH])
        scorers[name, precision] = lambda f=forward: predict_logits(f, images)
        with tempfile.TemporaryDirectory() as folder:
            scorers[name, "int8"] = int8(model, name, images, folder)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in scorers}
    rates = []
    for _ in range(asked.rounds):
        rates.append(2 * 4096**3 / seconds_of(product(precision), 3))
        for key, scorer in scorers.items():
            times[key].append(seconds_of(scorer, 1))
    rate = statistics.median(rates)
    print(f"matrix product, {precision}: {rate / 1e9:.0f} GFLOP/s")
    print(f"{'recipe':<10}{'in':<10}{'seconds':>9}{'images/s':>10}{'TFLOP':>8}{'of product':>12}")
    for name, form in scorers:
        seconds, work = statistics.median(times[name, form]), IMAGES * operations(recipe(name))
        print(
            f"{name:<10}{form:<10}{seconds:>9.2f}{IMAGES / seconds:>10,.0f}{work / 1e12:>8.2f}"
            f"{work / seconds / rate:>12.0%}"
        )


if __name__ == "__main__":
    main()
