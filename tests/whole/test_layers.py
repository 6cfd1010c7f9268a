"""Who may import whom: data flows one way, and heavy libraries load only where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "fmnist"
FILES = sorted(PACKAGE.rglob("*.py"))
# A file imports its own package and what stands in a line above its own, never a neighbour.
LAYERS = [
    {"errors", "version"},
    {"files", "signals", "system"},
    {"recipes", "data"},
    {"runs"},
    {"engine", "inference"},
    {"scoring"},
    {"training", "reports"},
    {"search", "audits", "exports", "serving", "doctor"},
    {"cli"},
    {"__init__", "__main__"},
]
# Only these import TensorFlow or JAX: the engine, the two bodies of the update, LiteRT's converter.
KNOW_THE_ENGINE = {"engine", "training/update.py", "exports/litert.py"}
# What loads at once: no Keras and, where the second is true, no NumPy either.
LIGHT = {"errors": True, "files": True, "recipes": True, "data": False, "cli": True}


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Dotted names that a module imports, functions and type-checking blocks included if `lazy`."""
    found, nodes = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: an import relative to the file"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        hidden = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if lazy or not hidden:
            nodes += ast.iter_child_nodes(node)
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_its_line():
    assert {*map(room, FILES)} == set().union(*LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_file_imports_its_own_room_and_those_above(path):
    line = next(i for i, layer in enumerate(LAYERS) if room(path) in layer)
    allowed = {room(path)}.union(*LAYERS[:line])
    names = {name.split(".")[1] for name in imports(path) if name.startswith("fmnist.")}
    rooms = set().union(*LAYERS)
    assert names & rooms <= allowed
    if room(path) not in {"training", "audits", "cli", "__init__"}:
        assert "training" not in names
    if not KNOW_THE_ENGINE & {room(path), str(path.relative_to(PACKAGE))}:
        assert not {name.split(".")[0] for name in imports(path)} & {"tensorflow", "jax"}
    if room(path) in LIGHT:
        heavy = {"keras", *(["numpy"] if LIGHT[room(path)] else [])}
        assert not {name.split(".")[0] for name in imports(path, lazy=False)} & heavy


def test_inference_and_serving_need_no_engine():
    code = (
        "import sys, fmnist.inference.answers, fmnist.serving.server\n"
        "print('loaded:', *{'keras', 'tensorflow', 'jax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "loaded:\n"), done.stderr


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from fmnist.cli.main import main\n"
        "sys.argv = ['fmnist', '--help']\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop\n"
        "print('loaded:', *{'numpy', 'keras', 'tensorflow', 'jax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"
