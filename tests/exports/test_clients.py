"""Exported files in the programs that people load them with, as `make clients` installs them.

Each program in `clients/` answers for the same images as onnxruntime and TensorFlow do here.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fmnist.engine import networks
from fmnist.exports import formats, litert, onnx_graph, portable
from fmnist.inference.model_file import SHIPPED
from fmnist.recipes.shipped import recipe

pytestmark = pytest.mark.clients
ROOT = next(path for path in Path(__file__).parents if (path / "pyproject.toml").is_file())
INSTALLED = ROOT / "build" / "clients"
PROGRAMS = Path(__file__).parent / "clients"
PACKAGES = sorted(path.name for path in INSTALLED.glob("*==*"))
NETWORKS = {
    "shortcuts": (
        "quick",
        {"model.filters": "6,6,8,8", "model.pool_after": "2,3", "model.shortcuts": 4},
    ),
    "plain": ("reference", {"model.filters": "6,6,8,8", "model.dense_units": 9}),
    "wide": ("strong-gpu", {"model.depth": 10, "model.width": 1}),
}
SIDES = (28, 28), (13, 12)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files of each network, size and storage, and the bundled model."""
    top, random = tmp_path_factory.mktemp("models"), np.random.default_rng(0)
    for height, width in SIDES:
        samples = random.integers(0, 256, (20, height, width), dtype=np.uint8)
        about = {"mean": 0.3, "deviation": 0.3, "shape": (height, width, 1), "classes": [*"abcde"]}
        for name, (kind, settings) in NETWORKS.items():
            chosen = recipe(kind, **settings)
            model = networks.build(chosen, about["shape"], len(about["classes"]))
            made = portable.build(model, chosen, about, 0.7)
            for storage in ("float32", "float16", "int8"):
                folder = top / f"{name}-{height}-{storage}"
                folder.mkdir()
                (folder / "images.json").write_text(json.dumps(samples[:3].tolist()))
                onnx_graph.save(made, folder / "model.onnx", storage, samples)
                litert.save(made, folder / "model.tflite", storage, samples)
                for form in ("onnx", "litert"):
                    formats.describe(form, folder / formats.FILES[form], {"name": name} | about)
    folder = top / "shipped"
    folder.mkdir()
    (folder / "images.json").write_text((top / "plain-28-int8" / "images.json").read_text())
    shutil.copy(SHIPPED, folder)
    return top


def require_same_answers(command, files, load, close, **options):
    """Run a program on files; its probabilities are `close` to those that `load` computes here."""
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    _, answers = json.loads(done.stdout.splitlines()[-1])
    assert files
    for file in files:
        images = np.array(json.loads(file.with_name("images.json").read_text()), np.uint8)
        expected = load(file)(images)["probabilities"]
        found = np.array(answers[str(file)])
        assert found.shape == (4, expected.shape[1]), file
        np.testing.assert_allclose(
            found, [expected[0], *expected], atol=close(file), err_msg=str(file)
        )


def rounding(file):
    """Integer arithmetic rounds a half differently here and there."""
    return 0.03 if "int8" in str(file) or "shipped" in str(file) else 1e-4


def test_the_programs_are_installed():
    """`make clients` does that; without it the tests below would be none."""
    names = {name.partition("==")[0] for name in PACKAGES}
    assert names == {"opencv-python-headless", "onnxruntime", "ai-edge-litert"}
    assert (INSTALLED / "node" / "node_modules" / "onnxruntime-node").is_dir()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_python_program_answers_alike(package, models):
    name = package.partition("==")[0]
    script = {"opencv-python-headless": "opencv", "ai-edge-litert": "litert"}.get(name, name)
    kind, load = ("tflite", litert.load) if script == "litert" else ("onnx", onnx_graph.load)
    env = os.environ | {"PYTHONPATH": str(INSTALLED / package)}
    command = [sys.executable, PROGRAMS / f"with_{script}.py"]
    files = sorted(models.rglob(f"*.{kind}"))
    if package.startswith("opencv-python-headless==5.0"):  # has a fault in integer Gemm
        files = [file for file in files if not file.match("plain-*-int8/*")]
    require_same_answers(command, files, load, rounding, env=env)


@pytest.mark.parametrize("package", ["onnxruntime-node", "onnxruntime-web"])
def test_node_answers_alike(package, models):
    command = ["node", PROGRAMS / "with_node.mjs", INSTALLED / "node", package]
    require_same_answers(command, sorted(models.rglob("*.onnx")), onnx_graph.load, rounding)
