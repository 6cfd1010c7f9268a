"""How long one answer takes from the start, and how many images a second there are after it.

    python benchmarks/predict.py [--model MODEL] [--rounds 5]

Start to answer: the whole process `fmnist predict photo.jpg`, a photo of 1200 × 1600. Throughput:
the classifier alone, on images in memory; then the whole process over an IDX file, a folder of
28×28 PNGs with --raw, and a folder of photos of 600 × 800. Beside it stand the convolutions' and
matrices' operations as a share of the rate at which this machine multiplies 4096×4096 matrices in
float32, in which the model computes. Rounds are interleaved, figures are medians.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from fmnist.inference.classifier import SHIPPED, Classifier

IN_MEMORY, IN_IDX, IN_FOLDER, PHOTOS = 20_000, 20_000, 4_000, 64


def operations(path: Path) -> int:
    """Floating-point operations of an image's convolutions and matrix products."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    graph = model.graph
    shapes = {
        each.name: [d.dim_value for d in each.type.tensor_type.shape.dim]
        for each in (*graph.value_info, *graph.input, *graph.output)
    } | {each.name: [*each.dims] for each in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            kernel = shapes[node.input[1]]
            total += 2 * int(np.prod(kernel)) * int(np.prod(shapes[node.output[0]][2:]))
        elif node.op_type in ("MatMul", "Gemm"):
            total += 2 * int(np.prod(shapes[node.input[1]]))
    both = any(node.name == "both" for node in graph.node)  # and its mirror image
    return 2 * total if both else total


def photo(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Something dark, of coarse noise, on white."""
    pixels = np.full((height, width, 3), 250, np.uint8)
    coarse = random.integers(20, 200, (16, 12, 3), dtype=np.uint8)
    pixels[height // 6 :, width // 4 :][: 16 * (height // 24), : 12 * (width // 24)] = (
        coarse.repeat(height // 24, 0).repeat(width // 24, 1)
    )
    return Image.fromarray(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    random = np.random.default_rng(0)
    classifier = Classifier.load(asked.model)
    images = random.integers(0, 256, (IN_MEMORY, 28, 28), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo(random, 1200, 1600).save(folder / "photo.jpg")
        for part in ("raw", "photos"):
            (folder / part).mkdir()
        for i in range(IN_FOLDER):
            Image.fromarray(images[i]).save(folder / "raw" / f"{i}.png")
        for i in range(PHOTOS):
            photo(random, 600, 800).save(folder / "photos" / f"{i}.jpg")
        header = bytes([0, 0, 8, 3]) + np.array([IN_IDX, 28, 28], ">u4").tobytes()
        (folder / "images").write_bytes(header + images[:IN_IDX].tobytes())

        def process(*arguments: str) -> None:
            command = [sys.executable, "-m", "fmnist", "predict", "--model", str(asked.model)]
            subprocess.run(
                [*command, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL
            )

        matrix = random.normal(size=(4096, 4096)).astype(np.float32)
        work = {
            "matrix product": (0, lambda: matrix @ matrix),
            "start to answer": (0, lambda: process("photo.jpg")),
            "images in memory": (IN_MEMORY, lambda: classifier.run(images)),
            "IDX file": (IN_IDX, lambda: process("images", "--json")),
            "folder, 28×28 PNG": (IN_FOLDER, lambda: process("raw", "--raw", "--json")),
            "folder, photos": (PHOTOS, lambda: process("photos", "--json")),
        }
        classifier.run(images[:256])
        times: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(asked.rounds):
            for name, (_, call) in work.items():
                begin = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - begin)
    rate = 2 * 4096**3 / statistics.median(times["matrix product"])
    each = operations(asked.model)
    print(f"matrix product, float32: {rate / 1e9:.0f} GFLOP/s; the model: {each / 1e6:.1f} MFLOP")
    print(f"start to answer: {statistics.median(times['start to answer']):.3f} s")
    print(f"{'':<20}{'images':>8}{'seconds':>9}{'images/s':>10}{'of product':>12}")
    for name, (count, _) in work.items():
        if count:
            seconds = statistics.median(times[name])
            share = count * each / seconds / rate
            print(f"{name:<20}{count:>8,}{seconds:>9.2f}{count / seconds:>10,.0f}{share:>12.0%}")


if __name__ == "__main__":
    main()
