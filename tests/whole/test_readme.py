"""The README's Python runs as it stands, and its commands exist."""

import re
from pathlib import Path

import pytest
import typer
from idx import write_idx_set

from fmnist.cli.main import app

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]


def test_there_is_python_to_run():
    assert len(PYTHON) == 3


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_blocks_run(code, tmp_path, monkeypatch):
    """On a small set in place of Fashion-MNIST."""
    monkeypatch.setenv("FMNIST_DATA", str(write_idx_set(tmp_path / "set", train=360)))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    made = {path.name for path in tmp_path.iterdir()}
    if "Classifier" in names:
        assert names["probabilities"].shape == (len(names["images"]), 10)
    else:
        assert made & {"runs", "log.csv"}


def test_every_command_and_option_named_exists():
    """Words after `fmnist` in shell blocks, and their options, are the command line's own."""
    group = typer.main.get_command(app)
    lines = re.findall(
        r"^(?:\.venv/bin/)?fmnist ([^#\n`]+)",
        "\n".join(code for language, code in BLOCKS if language == "sh"),
        flags=re.MULTILINE,
    )
    assert len(lines) >= 10
    for line in lines:
        words = line.split()
        command = group.commands[words[0]]
        if words[0] == "runs" and len(words) > 1 and not words[1].startswith("--"):
            command = command.commands[words[1]]
        known = {name for parameter in command.params for name in parameter.opts}
        assert {w for w in words if w.startswith("--")} <= known, line
