"""The front door: its names, which nothing shadows, and their documentation."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import fmnist

ROOT = Path(__file__).parents[2]
# What a command does and how Python says it; the others have the same name.
IN_PYTHON = {"data": "describe", "predict": "Classifier", "recipes": "recipe", "runs": "Run"}
ONLY_COMMANDS = {"serve", "doctor", "summary"}  # a server, this machine, and Keras' own table


def test_every_command_is_a_public_name():
    from fmnist.cli.main import app

    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    commands |= {group.name for group in app.registered_groups}
    named = {IN_PYTHON.get(command, command) for command in commands - ONLY_COMMANDS}
    assert named <= set(dir(fmnist)) == {*fmnist.__all__, "__version__"}


def test_no_package_shadows_a_public_name():
    """`import fmnist.x` sets the attribute x, and `fmnist.x` is then no function any more."""
    package = ROOT / "src/fmnist"  # an old checkout may hold a folder of compiled files alone
    rooms = {path.stem for path in package.glob("*.py")}
    rooms |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert not rooms & set(fmnist.__all__)
    importlib.import_module("fmnist.audits.page")
    importlib.import_module("fmnist.reports.report")
    assert [name for name in fmnist.__all__ if not callable(getattr(fmnist, name))] == ["keras"]


@pytest.mark.parametrize("name", [name for name in fmnist.__all__ if name != "keras"])
def test_a_public_name_is_typed_and_documented(name):
    public = getattr(fmnist, name)
    assert f"::: fmnist.{name}\n" in (ROOT / "docs/api.md").read_text(encoding="utf-8")
    text = inspect.getdoc(public)
    assert text
    if inspect.isfunction(public):
        kinds = inspect.signature(public).parameters.values()
        assert all(kind.annotation is not kind.empty for kind in kinds)
        assert name == "describe" or re.search(r"\braises?\b", text, re.IGNORECASE), "its errors"
