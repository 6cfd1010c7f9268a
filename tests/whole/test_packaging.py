"""What leaves as a wheel, and what the requirement files pin.

The wheel is built and installed offline into an empty environment, which sees the base dependencies
of the environment that runs the tests and nothing else of it: so no Keras, TensorFlow or JAX.
"""

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fmnist.errors import to_install

ROOT = Path(__file__).parents[2]
WEB_VENDOR = ROOT / "src" / "fmnist" / "serving" / "web" / "vendor"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
GROUPS = PYPROJECT["dependency-groups"]
# What people read: folders, and the kinds of files in them.
WRITTEN = ("src", "docs", "notebooks", "records", "benchmarks", "tools", "web-build")
WRITTEN_IN = {".md", ".py", ".ipynb", ".jinja", ".html", ".js"}
PIN = re.compile(r"^([a-z0-9.-]+)==([^ ;]+)(?: ; (.+?))? \\$", re.MULTILINE)
# The rooms that work in the base install alone; any other needs the extra `train`, or what is said.
BASE_ROOMS = {
    *("cli", "data", "doctor", "errors", "inference", "recipes", "serving", "signals", "system")
}
EXTRAS = {"search": ("train", "cluster"), "engine": ("train", "jax")}
EXTRAS["training"] = ("train", "jax", "tensorboard", "mlflow")
EXTRAS["data"] = ("parquet", "heic")
PICTURES = {"data": {"matplotlib"}}  # what a room of the base install does without
DISTRIBUTIONS = {"PIL": "pillow", "mlflow": "mlflow-skinny"}  # where the import has another name


def requires(extra: str) -> list[str]:
    """What an extra requires; where it names another of fmnist's extras, what that requires."""
    found = []
    for line in PROJECT["optional-dependencies"][extra]:
        other = re.fullmatch(r"fmnist\[(\w+)\]", line)
        found += requires(other[1]) if other else [line]
    return found


DIRECT = {  # the direct dependencies that each requirement file must pin
    "base": PROJECT["dependencies"],
    "train": requires("train") + GROUPS["build"],
    "dev": GROUPS["dev"] + requires("jax") + requires("tensorboard"),
    "docs": PROJECT["dependencies"] + GROUPS["docs"],
} | {extra: requires(extra) for extra in ("cuda", "rocm", "cluster", "mlflow")}


def text_of(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def pins(name: str) -> set[tuple[str, str, str]]:
    """(package, version, marker) of each pin in a requirement file."""
    return set(PIN.findall(text_of(name)))


def run(*command: str | Path, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [os.fspath(part) for part in command], capture_output=True, text=True, **options
    )


def pip(*arguments: str | Path) -> None:
    done = run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def fmnist(wheel, tmp_path_factory):
    """Runs the program of an environment that holds the wheel and the base dependencies alone."""
    place = tmp_path_factory.mktemp("base install")
    venv.create(place / "venv", symlinks=os.name != "nt")
    program = Path(sysconfig.get_path("scripts", "venv", {"base": str(place / "venv")}))
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(place / "venv")}))
    pip("--python", program / "python", "install", "--no-deps", "--no-index", wheel)
    (place / "base").mkdir()
    for name, _, marker in pins("base"):
        if marker and not Requirement(f"{name}; {marker}").marker.evaluate():
            continue
        for file in distribution(name).files:
            top = file.parts[0]
            link = place / "base" / top
            if top not in {"..", "__pycache__"} and not link.is_symlink():
                link.symlink_to(distribution(name).locate_file(top))
    (packages / "base.pth").write_text(f"{place / 'base'}\n")
    (place / "elsewhere").mkdir()
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FMNIST"))
    } | {"HOME": str(place), "XDG_CACHE_HOME": str(place / "cache")}

    def call(*arguments: str, executable: str = "fmnist") -> subprocess.CompletedProcess[str]:
        return run(program / executable, *arguments, cwd=place / "elsewhere", env=environment)

    return call


def test_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    info = f"fmnist-{PROJECT['version']}.dist-info/"
    assert {name.split("/")[0] + "/" for name in names} == {"fmnist/", info}
    inside = [name for name in names if name.startswith("fmnist/")]
    source = ROOT / "src"
    modules = {str(path.relative_to(source)) for path in (source / "fmnist").rglob("*.py")}
    assert modules | {
        "fmnist/py.typed",
        "fmnist/reports/report.html.jinja",
        "fmnist/audits/audit.html.jinja",
        "fmnist/exports/card.html.jinja",
    } <= set(inside)
    web = "fmnist/serving/web/"
    page = {web + path.name for path in (source / web).glob("*.*")}
    assert {web + "index.html", web + "app.js"} <= page <= set(inside)
    # What `make web` brought goes along.
    brought = {f"{web}vendor/{path.name}" for path in WEB_VENDOR.glob("*")}
    rest = {name for name in inside if not name.startswith((web, "fmnist/inference/shipped/"))}
    assert {name for name in inside if name.startswith(web)} == page | brought
    assert {Path(name).suffix for name in rest} == {".py", ".typed", ".jinja"}
    assert not [name for name in inside if "test" in name or "scratch" in name]
    assert any(name.startswith(info) and name.endswith("LICENSE") for name in names)


def test_base_install_has_no_training_packages(fmnist):
    names = ("keras", "tensorflow", "jax", "sklearn", "matplotlib", "pytest")
    code = f"from importlib.util import find_spec; print([n for n in {names} if find_spec(n)])"
    assert fmnist("-c", code, executable="python").stdout == "[]\n"
    code = (
        "import numpy, onnxruntime, PIL, rich, typer, fmnist.serving.server; print(fmnist.__file__)"
    )
    done = fmnist("-c", code, executable="python")
    assert "base install" in done.stdout, done.stderr


def test_base_install_answers(fmnist):
    version = fmnist("--version")
    assert version.returncode == 0, version.stderr
    assert PROJECT["version"] in version.stdout
    usage = fmnist("--help")
    assert usage.returncode == 0, usage.stderr
    assert "train" in usage.stdout
    recipes = fmnist("recipes", "--json")
    assert recipes.returncode == 0, recipes.stderr
    assert "quick" in json.dumps(json.loads(recipes.stdout.splitlines()[-1]))


def test_base_install_is_healthy(fmnist):
    done = fmnist("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {each["about"]: each for each in json.loads(done.stdout)["findings"]}
    assert found["onnxruntime"]["level"] == "ok"
    assert found["packages"]["mend"] == to_install("train")
    assert not {"tensorflow", "jax", "backend"} & set(found)


def test_base_install_reads_data_and_answers_from_python(fmnist, small_set):
    page = (ROOT / "docs" / "predicting.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    told = f"import os\nos.environ['FMNIST_DATA'] = {str(small_set)!r}\n"
    code = f"{told}{example}\nprint(probabilities.shape)\nimport platformdirs, pooch, requests"
    done = fmnist("-c", code, executable="python")
    assert (done.returncode, done.stdout) == (0, "(60, 10)\n"), done.stderr
    done = fmnist("data", "--data", str(small_set), "--json")
    assert done.returncode == 0, done.stderr


def test_base_install_says_what_training_needs(fmnist, small_set):
    done = fmnist("train", "quick", "--data", str(small_set))
    assert done.returncode == 2, done.stderr
    assert to_install("train") in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", DIRECT)
def test_direct_dependencies_are_pinned(name):
    versions = {package: version for package, version, _ in pins(name)}
    for line in DIRECT[name]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), line


def declared(*extras: str) -> set[str]:
    """The packages that the base install has with these extras."""
    lists = [PROJECT["dependencies"], *map(requires, extras)]
    names = {canonicalize_name(Requirement(line).name) for lines in lists for line in lines}
    return names - {"tensorflow-cpu"}  # which is tensorflow under another name


def imported() -> dict[str, set[str]]:
    """By room of src/fmnist, the packages that it imports, inside functions too."""
    rooms: dict[str, set[str]] = {}
    package = ROOT / "src" / "fmnist"
    for path in package.rglob("*.py"):
        found = rooms.setdefault(path.relative_to(package).parts[0].removesuffix(".py"), set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
        found -= {"fmnist", *sys.stdlib_module_names}
    return {
        room: {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in names}
        for room, names in rooms.items()
    }


def test_each_room_imports_what_its_extra_declares():
    rooms = imported()
    wrong = {
        room: names
        - declared(*EXTRAS.get(room, () if room in BASE_ROOMS else ("train",)))
        - PICTURES.get(room, set())
        for room, names in rooms.items()
    }
    assert {room: names for room, names in wrong.items() if names} == {}
    assert set(rooms) >= BASE_ROOMS | set(EXTRAS)


def test_whatever_is_declared_is_imported():
    extras = set(PROJECT["optional-dependencies"])
    assert declared(*extras) == set().union(*imported().values())


def test_only_the_extra_train_brings_tensorflow():
    """Over a TensorFlow for GPUs the other extras leave the engine as it is."""
    found = {
        extra: {
            canonicalize_name(Requirement(line).name).removesuffix("-cpu")
            for line in requires(extra)
        }
        & {"tensorflow", "jax"}
        for extra in ("keras", "train", "jax", "cuda", "rocm", "tensorboard", "mlflow")
    }
    assert found == {
        **{extra: set() for extra in ("keras", "tensorboard", "mlflow")},
        **{extra: {"jax"} for extra in ("jax", "cuda", "rocm")},
        "train": {"tensorflow"},
    }


def test_requirement_files_nest():
    assert pins("base") < pins("train") < pins("dev")
    assert {name for name, *_ in pins("base")} < {name for name, *_ in pins("docs")}
    for extra in ("cuda", "rocm", "cluster", "mlflow"):
        assert pins("base") < pins(extra)
    # What is tested is what runs on a GPU or a cluster: no version of a package is another.
    tested = {package: version for package, version, _ in pins("dev")}
    for name in ("cuda", "rocm", "cluster", "docs", "mlflow"):
        there = {package: version for package, version, _ in pins(name)}
        assert {p: v for p, v in there.items() if tested.get(p, v) != v} == {}


@pytest.mark.parametrize(("extra", "plugin"), [("cuda", "jax-cuda13"), ("rocm", "jax-rocm7")])
def test_plugins_are_pinned_to_the_version_of_jax(extra, plugin):
    versions = {package: version for package, version, _ in pins(extra)}
    parts = {package for package in versions if package.startswith(("jax-cuda", "jax-rocm"))}
    assert parts == {f"{plugin}-plugin", f"{plugin}-pjrt"}
    assert {versions[part] for part in parts} == {versions["jaxlib"]}


def test_extras_that_exclude_each_other_are_declared():
    assert [{"extra": "cuda"}, {"extra": "rocm"}] in PYPROJECT["tool"]["uv"]["conflicts"]


@pytest.mark.parametrize("name", DIRECT)
def test_requirement_file_is_hashed_and_names_no_address(name):
    text = text_of(name)
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    entries = [line for line in lines if not line.startswith(" ")]
    assert len(entries) == len(pins(name))  # nothing but pins: no options, no URLs
    assert all(line.startswith("    --hash=sha256:") for line in lines if line not in entries)
    assert all(
        re.search(rf"^{re.escape(line)}\n    --hash", text, re.MULTILINE) for line in entries
    )
    assert "://" not in text


def test_the_page_is_made_without_tensorflow():
    done = subprocess.run(["make", "-n", "page"], cwd=ROOT, capture_output=True, text=True)
    assert {*re.findall(r"requirements/(\w+)\.txt", done.stdout)} == {"base"}, done.stderr


def test_no_page_and_no_message_installs_from_an_index():
    """There is no such package yet: `to_install` and the pages say what works from a checkout."""
    asks = re.compile(r"\bfmnist\[\w+\]|pip install (?:\S+ )*fmnist\b")
    told = ROOT.glob("*.md"), *((ROOT / name).rglob("*") for name in WRITTEN)
    files = [path for paths in told for path in paths if path.suffix in WRITTEN_IN]
    assert len(files) > 100
    wrong = {str(path.relative_to(ROOT)) for path in files if asks.search(path.read_text("utf-8"))}
    assert wrong == set()
    assert asks.search('pip install "fmnist[train]"')
    assert asks.search("pip install --upgrade fmnist")


def test_make_accepts_the_pythons_that_the_package_does():
    accepted = re.findall(r"3\.(\d+)\.\*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    wanted = Requirement(f"fmnist{PROJECT['requires-python']}").specifier
    assert {int(minor) for minor in accepted} == {
        minor for minor in range(30) if wanted.contains(f"3.{minor}")
    }


def test_what_the_page_takes_from_npm_is_pinned_and_names_no_address():
    text = (ROOT / "web-build" / "package-lock.json").read_text(encoding="utf-8")
    lock = json.loads(text)
    (itself,) = (each for name, each in lock["packages"].items() if not name)
    assert itself == {
        key: json.loads((ROOT / "web-build" / "package.json").read_text(encoding="utf-8"))[key]
        for key in ("dependencies", "devDependencies")
    }
    taken = [each for name, each in lock["packages"].items() if name]
    assert taken
    assert all(each["integrity"].startswith("sha512-") for each in taken)
    assert "://" not in text
