"""The notebook: it runs from top to bottom, and is shipped with its outputs."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from idx import write_idx_set

import fmnist

OURS = re.compile("training |epoch |trained in ")  # no line of a library
TOUR = Path(__file__).parents[2] / "notebooks" / "tour.ipynb"


def cells(kind):
    notebook = json.loads(TOUR.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def code():
    return "\n".join("".join(cell["source"]) for cell in cells("code"))


def test_its_outputs_are_those_of_one_run_from_top_to_bottom():
    assert [c["execution_count"] for c in cells("code")] == [*range(1, len(cells("code")) + 1)]
    outputs = [output for cell in cells("code") for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    said = "".join("".join(o["text"]) for o in outputs if o.get("name") == "stderr")
    assert all(OURS.match(line) for line in said.splitlines()), said
    text = "".join("".join(o.get("text", "")) for o in outputs)
    assert "points (95% CI" in text
    assert "/" not in re.sub(r"runs/\d|\d/\d|img/s|ms/step|T-shirt/top", "", text), (
        "a machine's path"
    )


def test_it_uses_public_names_alone():
    names = set()
    for node in ast.walk(ast.parse(code())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "fmnist":
            names |= {node.module + "." + alias.name for alias in node.names}
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")
            if isinstance(node.value, ast.Name) and node.value.id == "fmnist":
                names.add(f"fmnist.{node.attr}")
    assert len(names) > 8
    assert names <= {f"fmnist.{name}" for name in fmnist.__all__}


def test_it_runs(tmp_path):
    write_idx_set(tmp_path / "data", train=300, test=20)
    done = subprocess.run(
        [sys.executable, "-c", code()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"FMNIST_DATA": str(tmp_path / "data"), "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    assert all(OURS.match(line) for line in done.stderr.splitlines()), done.stderr
    assert "points (95% CI" in done.stdout or "right equally often" in done.stdout
    assert len(list((tmp_path / "runs").glob("*/weights.safetensors"))) == 2
