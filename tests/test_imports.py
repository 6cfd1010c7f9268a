"""The import rules of the design: data flows one way, and heavy libraries load only where used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "fmnist"
MODULES = sorted(PACKAGE.glob("*.py"))
# What these modules may import of fmnist; the others are free but for the rules below.
MAY_IMPORT = {
    "errors": set(),
    "recipes": {"errors", "files"},
    "idx": {"errors"},
    "sources": {"errors", "idx"},
    "data": {"errors", "idx", "sources"},
    "files": {"errors"},
    "runs": {"errors", "files"},
    "confident_learning": set(),
    "duplicates": set(),
    "occlusion": {"errors", "evaluation"},
    "findings": set(),
    "accelerators": {"findings"},
    "probe": {"backend"},
    "doctor": {"accelerators", "data", "errors", "findings", "memory", "sources"},
    "pages": set(),
    "garments": set(),
    "photos": {"errors", "garments"},
    "predict": {"errors", "files"},
    "inputs": {"errors", "idx", "photos"},
    "answers": {"errors", "files", "inputs", "photos", "predict"},
    "pictures": set(),
    "plots": set(),
    "bodies": {"errors", "photos"},
    "readers": {"bodies"},
    "limits": {"bodies"},
    "serve": {"bodies", "errors", "files", "limits", "predict", "readers", "signals"},
    "report": {
        "compare",
        "data",
        "errors",
        "evaluation",
        "files",
        "occlusion",
        "pages",
        "pictures",
        "plots",
        "recipes",
        "runs",
        "tables",
    },
}
ENGINES = {"tensorflow", "jax"}


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Dotted names that a module imports, functions and type-checking blocks included if `lazy`."""
    found, nodes = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["fmnist" if node.level else "", node.module or ""]))
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        hidden = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if lazy or not hidden:
            nodes += ast.iter_child_nodes(node)
    return found


def own(path: Path) -> set[str]:
    """Modules of fmnist that a module imports."""
    names = {path.stem for path in MODULES}
    return {name.split(".")[1] for name in imports(path) if name.startswith("fmnist.")} & names


def roots(path: Path, *, lazy: bool = True) -> set[str]:
    """First parts of what a module imports."""
    return {name.split(".")[0] for name in imports(path, lazy=lazy)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_each_module_imports_only_what_it_may(path):
    assert own(path) <= MAY_IMPORT.get(path.stem, own(path))
    if path.stem not in {"cli", "sweep", "audit", "__init__"}:
        assert "training" not in own(path)
    if path.stem not in {"backend", "distributed", "microbatch", "litert"}:  # LiteRT converts by TF
        assert not roots(path) & ENGINES
    if path.stem in {"recipes", "cli", "__init__", "errors", "files"}:
        assert not roots(path, lazy=False) & {"numpy", "keras"}


def test_help_loads_nothing_heavy():
    code = (
        "import sys, fmnist.cli\n"
        "sys.argv = ['fmnist', '--help']\n"
        "try: fmnist.cli.main()\n"
        "except SystemExit as stop: assert not stop.code, stop\n"
        "print('loaded:', *{'numpy', 'keras', 'tensorflow', 'jax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"
