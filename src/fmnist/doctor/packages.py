"""Whether Python and the installed packages fit."""

import platform
import sys
from collections.abc import Mapping
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from fmnist.doctor.findings import Finding
from fmnist.errors import to_install

# Each extra, and the package that shows that it is wanted here.
EXTRAS = {
    "keras": "keras",
    "train": "tensorflow-cpu",
    "jax": "jax",
    "cuda": "jax-cuda13-plugin",
    "rocm": "jax-rocm7-plugin",
    "cluster": "ray",
}


def check_python() -> Finding:
    """Whether this Python is one that fmnist is made for."""
    text = f"{platform.python_version()} on {platform.platform()}, {sys.executable}"
    try:
        wanted = SpecifierSet(metadata.metadata("fmnist")["Requires-Python"])
    except metadata.PackageNotFoundError:
        return Finding("python", "ok", text)
    if not wanted.contains(platform.python_version(), prereleases=True):
        return Finding(
            "python", "wrong", f"{text}: fmnist needs {wanted}", "make train PYTHON=python3.12"
        )
    return Finding("python", "ok", text, "", {"version": platform.python_version()})


def check_packages(installed: Mapping[str, str]) -> list[Finding]:
    """Whether the packages that fmnist and they themselves ask for are there and fit."""
    if "fmnist" not in installed:
        text = "fmnist is not installed, so its requirements are unknown"
        return [Finding("packages", "note", text, to_install())]
    extras = [extra for extra, shown_by in EXTRAS.items() if shown_by in installed]
    findings, seen = [], set()
    waiting = [("fmnist", extra) for extra in ["", *extras]]
    while waiting:
        name, extra = waiting.pop(0)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in metadata.requires(name) or []:
            try:
                wanted = Requirement(line)
            except ValueError:  # of an old package, which pip cannot read either
                continue
            if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
                continue
            package = canonicalize_name(wanted.name)
            has = installed.get(package)
            asked = f"{wanted.name}{wanted.specifier}"
            if has is None:
                text = f"{name} needs {wanted.name}, which is missing"
            elif not wanted.specifier.contains(has, prereleases=True):
                text = f"{wanted.name} {has} is installed, but {name} needs {wanted.specifier}"
            else:
                waiting += [(package, each) for each in ["", *sorted(wanted.extras)]]
                continue
            found = Finding("packages", "wrong", text, f'pip install "{asked}"')
            if found not in findings:
                findings.append(found)
    if not findings:
        parts = " and ".join(filter(None, ["the base", ", ".join(extras)]))
        text = f"{len({name for name, _ in seen})} for {parts}; all versions fit"
        names = ("fmnist", "numpy", "onnxruntime", "keras", "tensorflow-cpu", "tensorflow", "jax")
        values = {name: installed[name] for name in names if name in installed}
        findings.append(Finding("packages", "ok", text, "", values))
    if "keras" not in extras:
        text = "the packages for training are not installed"
        findings.append(Finding("packages", "note", text, to_install("train")))
    return findings + _two_tensorflows(installed)


def _two_tensorflows(installed: Mapping[str, str]) -> list[Finding]:
    """The two packages hold the same files; pip knows of no conflict between them."""
    names = ("tensorflow", "tensorflow-cpu")
    if not all(name in installed for name in names):
        return []
    both = " and ".join(f"{name} {installed[name]}" for name in names)
    text = f"{both} are both installed: the later one put its files over the other's"
    again = f'pip install "tensorflow=={installed["tensorflow"]}"'
    mend = f"pip uninstall --yes {' '.join(names)} && {again}"
    return [Finding("packages", "note", text, mend)]
