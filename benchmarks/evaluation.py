"""How long it takes to score the 10,000 test images, one view, by recipe.

    python benchmarks/evaluation.py [quick standard seed] [--rounds 3]

Made-up images and untrained weights, since neither changes the time. From uint8 images in memory to
logits, as `fmnist evaluate` does it; the first batch, which compiles, is not in it. Rounds are
interleaved, figures are medians. The reference model's author needed 65 s, on a graphics card.
"""

import argparse
import statistics

import numpy as np
from steps import operations, product, seconds_of

from fmnist import backend, evaluation, models
from fmnist.recipes import recipe

IMAGES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=["quick", "standard", "seed"])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    images = np.random.RandomState(0).randint(0, 256, (IMAGES, 28, 28, 1), dtype=np.uint8)
    precision = backend.resolve_precision("auto")
    networks = {name: models.build(recipe(name)) for name in asked.recipes}
    forwards = {name: evaluation.compile_forward(m, 0.3, 0.35) for name, m in networks.items()}
    times: dict[str, list[float]] = {name: [] for name in networks}
    rates = []
    for forward in forwards.values():
        evaluation.predict_logits(forward, images[: evaluation.BATCH])
    for _ in range(asked.rounds):
        rates.append(2 * 4096**3 / seconds_of(product(precision), 3))
        for name, forward in forwards.items():
            times[name].append(
                seconds_of(lambda forward=forward: evaluation.predict_logits(forward, images), 1)
            )
    rate = statistics.median(rates)
    print(f"matrix product, {precision}: {rate / 1e9:.0f} GFLOP/s")
    print(f"{'recipe':<10}{'seconds':>9}{'images/s':>10}{'TFLOP':>8}{'of product':>12}")
    for name in networks:
        seconds, work = statistics.median(times[name]), IMAGES * operations(recipe(name))
        print(
            f"{name:<10}{seconds:>9.2f}{IMAGES / seconds:>10,.0f}{work / 1e12:>8.2f}"
            f"{work / seconds / rate:>12.0%}"
        )


if __name__ == "__main__":
    main()
