"""What this machine has and what is wrong with it, with the command that mends each.

It loads no engine itself: each is tried in a process of its own with a time limit, since one that
does not fit the machine may fail, crash or hang. It works in the base install too.
"""

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from fmnist import accelerators, memory
from fmnist.errors import DataError
from fmnist.findings import Answer, Finding, ask

# Each extra, and the package that shows that it is wanted here.
EXTRAS = {
    "train": "keras", "cuda": "jax-cuda13-plugin", "rocm": "jax-rocm7-plugin", "cluster": "ray",
}  # fmt: skip
ENGINES = {  # what to install anew where one does not even load
    "onnxruntime": ("onnxruntime",),
    "tensorflow": ("tensorflow-cpu", "tensorflow"),
    "jax": ("jax", "jaxlib"),
}
# Variables by which a shell or a batch system sends an engine to the wrong libraries or devices.
MISLEADING = (
    "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "XLA_FLAGS", "JAX_PLATFORMS",
    "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
)  # fmt: skip
LITTLE_DISK = 2 * 10**9  # bytes; the data, a few runs and their checkpoints


def diagnose(seconds: float = 120, root: Path = Path("/")) -> list[Finding]:
    """Look at everything; an engine that does not answer within `seconds` is broken.

    `root` is where the system's own files are looked up.
    """
    installed: dict[str, str] = {
        canonicalize_name(each.name): each.version for each in metadata.distributions() if each.name
    }
    gpus, expects_gpu = accelerators.check(installed, root)
    return [
        _python(),
        *_packages(installed),
        *gpus,
        *_backend(installed, expects_gpu, seconds),
        _threads(),
        _memory(),
        _disk(),
        _data(),
    ]


def lines(findings: list[Finding]) -> Iterator[str]:
    """The findings as a plain table, below each the command that mends it."""
    wide = max(len(finding.about) for finding in findings)
    for finding in findings:
        level = finding.level.upper() if finding.level == "wrong" else finding.level
        yield f"{finding.about:{wide}}  {level:5}  {finding.found}"
        if finding.mend:
            yield f"{'':{wide}}         {finding.mend}"


def to_json(findings: list[Finding]) -> dict[str, Any]:
    """The findings for a script; `healthy` unless one of them is wrong."""
    return {
        "healthy": all(finding.level != "wrong" for finding in findings),
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.platform()}, {sys.executable}"
    try:
        wanted = SpecifierSet(metadata.metadata("fmnist")["Requires-Python"])
    except metadata.PackageNotFoundError:
        return Finding("python", "ok", text)
    if not wanted.contains(platform.python_version(), prereleases=True):
        return Finding(
            "python", "wrong", f"{text}: fmnist wants {wanted}", "make train PYTHON=python3.12"
        )
    return Finding("python", "ok", text, "", {"version": platform.python_version()})


def _packages(installed: Mapping[str, str]) -> list[Finding]:
    """Whether the packages that fmnist and they themselves ask for are there and fit."""
    if "fmnist" not in installed:
        text = "fmnist is not installed here, so that nothing says what it needs"
        return [Finding("packages", "note", text, "pip install --editable .")]
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
                text = f"{wanted.name} is missing, which {name} needs"
            elif not wanted.specifier.contains(has, prereleases=True):
                text = f"{wanted.name} {has}, and {name} needs {wanted.specifier}"
            else:
                waiting += [(package, each) for each in ["", *sorted(wanted.extras)]]
                continue
            found = Finding("packages", "wrong", text, f'pip install "{asked}"')
            if found not in findings:
                findings.append(found)
    if not findings:
        parts = " and ".join(filter(None, ["the base", ", ".join(extras)]))
        text = f"{len({name for name, _ in seen})} for {parts}, which fit each other"
        names = ("fmnist", "numpy", "onnxruntime", "keras", "tensorflow-cpu", "tensorflow", "jax")
        values = {name: installed[name] for name in names if name in installed}
        findings.append(Finding("packages", "ok", text, "", values))
    if "train" not in extras:
        text = "what trains is not installed"
        findings.append(Finding("packages", "note", text, 'pip install "fmnist[train]"'))
    return findings


def _backend(installed: Mapping[str, str], expects_gpu: bool, seconds: float) -> list[Finding]:
    """What Keras will run on, and each engine that is there, tried."""
    findings, chosen = [], os.environ.get("KERAS_BACKEND", "tensorflow")
    trains = find_spec("keras") is not None
    if chosen not in ("tensorflow", "jax"):
        text = f"KERAS_BACKEND is {chosen!r}: fmnist takes tensorflow (which unset means) and jax"
        findings.append(Finding("backend", "wrong", text, "unset KERAS_BACKEND"))
    elif trains:
        named = "by KERAS_BACKEND" if "KERAS_BACKEND" in os.environ else "KERAS_BACKEND is not set"
        findings.append(Finding("backend", "ok", f"{chosen} ({named})", "", {"name": chosen}))
    for engine in ENGINES if trains else ["onnxruntime"]:
        if find_spec(engine) is None:
            continue  # its package is missing above, or nobody wants it
        tried = _engine(engine, installed, expects_gpu and engine == "jax", seconds)
        findings += tried
        if engine == "jax" and chosen == "tensorflow" and _sees_gpu(tried[0].values):
            text = "JAX has an accelerator here, and TensorFlow, which is chosen, has none"
            findings.append(Finding("backend", "note", text, "export KERAS_BACKEND=jax"))
    return findings


def _sees_gpu(result: Mapping[str, Any]) -> bool:
    return any(device["platform"] != "cpu" for device in result.get("devices", []))


def _engine(
    engine: str, installed: Mapping[str, str], expects_gpu: bool, seconds: float
) -> list[Finding]:
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # others use the GPU too

    def attempt(environment: Mapping[str, str]) -> tuple[dict[str, Any], str]:
        """The result, empty where there is none, and what went wrong, empty where nothing did."""
        command = [sys.executable, "-P", "-m", "fmnist.probe", engine]
        answer = ask(command, seconds, environment)
        result, fault = _reading(answer, seconds)
        if result and expects_gpu and not _sees_gpu(result):
            fault = f"sees no GPU: {answer.complaint() or 'and does not say why'}"
        return result, fault

    result, fault = attempt(environment)
    if not fault:
        return _works(engine, result)
    suspects = [name for name in MISLEADING if environment.get(name)]
    if suspects:
        # Of the search path stays what fmnist itself is found by.
        clean = {name: value for name, value in environment.items() if name not in suspects}
        clean["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
        if not attempt(clean)[1]:
            return [_broken(engine, f"{fault}; works without {', '.join(suspects)}",
                            f"unset {' '.join(suspects)}", result)]  # fmt: skip
    plugged = any(accelerators.plugins(installed, kind) for kind in ("cuda", "rocm"))
    if engine == "jax" and plugged and not result:
        result = attempt({**environment, "JAX_PLATFORMS": "cpu"})[0]
        if result:
            text = f"{fault}; works on the processor"
            return [_broken(engine, text, "export JAX_PLATFORMS=cpu", result)]
    names = [name for name in ENGINES[engine] if name in installed]
    pins = " ".join(f'"{name}=={installed[name]}"' for name in names)
    mend = f"pip install --force-reinstall --no-deps {pins}" if pins else f"pip install {engine}"
    return [_broken(engine, fault, mend, result)]


def _broken(engine: str, fault: str, mend: str, result: dict[str, Any]) -> Finding:
    return Finding(engine, "wrong", fault, mend, result)


def _reading(answer: Answer, seconds: float) -> tuple[dict[str, Any], str]:
    step, result = "start Python", dict[str, Any]()
    for line in answer.out.splitlines():
        with contextlib.suppress(ValueError):  # a start-up file of Python's may print, too
            said = {"step": step, "result": result} | json.loads(line)
            step, result = said["step"], said["result"]
    if result:
        return result, ""
    if answer.code is None:
        return {}, f"{step}: no answer within {seconds:g} s"
    if answer.code < 0:
        return {}, f"{step}: killed by signal {-answer.code}, {signal.strsignal(-answer.code)}"
    return {}, f"{step}: {answer.complaint() or f'ended with exit code {answer.code}'}"


def _works(engine: str, result: dict[str, Any]) -> list[Finding]:
    if engine == "onnxruntime":
        text = f"{result['version']}: {', '.join(result['devices'])}"
        return [Finding(engine, "ok", text, "", result)]
    rates = " and ".join(
        f"{rate / 1e9:,.0f} GFLOP/s in {dtype}" for dtype, rate in result["rates"].items()
    )
    devices = "; ".join(
        " ".join(dict.fromkeys(filter(None, [d["platform"], d["kind"], _size(d["bytes"])])))
        for d in result["devices"]
    )
    return [
        Finding(engine, "ok", f"{result['version']} on {result['device']}", "", result),
        Finding("  devices", "ok", devices),
        Finding("  precision", "ok", f"{result['precision']}: {result['because']}"),
        Finding("  products", "ok", f"of matrices: {rates}"),
    ]


def _size(count: int | None) -> str:
    return f"{count / 1e9:.1f} GB" if count else ""


def _threads() -> Finding:
    """Processors, those that this process may use, and the share of time that it may have."""
    there = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    share = _cpu_share()
    values: dict[str, Any] = {"processors": there, "usable": usable, "share": share}
    text = f"{usable} of {there} processors"
    if hasattr(os, "getloadavg"):
        values["load"] = round(os.getloadavg()[0], 1)
        text += f", {values['load']} processes at work"
        if values["load"] > usable:
            text += ", so that rates are lower than they could be"
    if share is not None and share < usable:
        text += f"; the container has the time of {share:g}, and more threads than that wait"
        mend = f"taskset --cpu-list 0-{max(int(share), 1) - 1} fmnist …"
        return Finding("threads", "note", text, mend, values)
    return Finding("threads", "ok", text, "", values)


def _cpu_share() -> float | None:
    """Processors' worth of time that the control groups permit; None for no limit."""
    shares = []
    for text in memory.group_settings("cpu.max", "", ""):
        quota, _, period = text.partition(" ")
        if quota.isdecimal() and period.isdecimal():
            shares.append(int(quota) / int(period))
    quotas = memory.group_settings("", "cpu", "cpu.cfs_quota_us")
    periods = memory.group_settings("", "cpu", "cpu.cfs_period_us")
    for quota, period in zip(quotas, periods, strict=False):
        if quota.isdecimal() and period.isdecimal():
            shares.append(int(quota) / int(period))
    return min(shares, default=None)


def _memory() -> Finding:
    free, limit = memory.available(), memory.container_limit()
    text = f"{_size(free)} to be had" if free else "unknown"
    text += f", the container's limit is {_size(limit)}" if limit else ""
    return Finding("memory", "ok", text, "", {"available": free, "limit": limit})


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{_size(free)} free in {Path.cwd()}"
    if free < LITTLE_DISK:
        text += ", which a few runs may fill"
        return Finding("disk", "note", text, "fmnist runs delete RUN", {"free": free})
    return Finding("disk", "ok", text, "", {"free": free})


def _data() -> Finding:
    """Whether the data is there and as it should be; nothing is fetched."""
    named = os.environ.get("FMNIST_DATA")
    looked: list[str] = []
    try:
        from fmnist import data, sources

        if named:
            loaded = data.load_data(named)
            return Finding("data", "ok", f"{loaded.name} in {named} (FMNIST_DATA)")
        place = sources.obtain_set(None, looked.append, mirrors=(), apt=False)[0]
        return Finding("data", "ok", f"Fashion-MNIST in {place}, verified")
    except DataError as error:
        if named:
            return Finding("data", "wrong", str(error), "unset FMNIST_DATA")
        return Finding("data", "note", f"not here yet ({'; '.join(looked)})", "fmnist data")
    except ImportError:
        text = "was not looked for: what finds it is not installed"
        return Finding("data", "note", text, 'pip install "fmnist[train]"')
