"""The notebook: it runs from top to bottom, and is committed without what changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from idx import write_idx_set

TOUR = Path(__file__).parents[2] / "notebooks" / "tour.ipynb"


def cells(kind):
    notebook = json.loads(TOUR.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_it_has_no_outputs():
    assert all(not c["outputs"] and c["execution_count"] is None for c in cells("code"))
    assert cells("markdown")


def test_it_runs(tmp_path):
    write_idx_set(tmp_path / "data", train=300, test=20)
    code = "\n".join("".join(cell["source"]) for cell in cells("code"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"FMNIST_DATA": str(tmp_path / "data"), "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    assert "points (95% CI" in done.stdout or "right equally often" in done.stdout
    assert len(list((tmp_path / "runs").glob("*/weights.safetensors"))) == 2
