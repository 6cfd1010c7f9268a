"""Whether each engine loads and computes, tried in a process of its own."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fmnist.doctor import gpus
from fmnist.doctor.findings import Answer, Finding, ask
from fmnist.doctor.machine import as_size
from fmnist.errors import to_install

ENGINES = {  # what to install anew where one does not even load
    "onnxruntime": ("onnxruntime",),
    "tensorflow": ("tensorflow-cpu", "tensorflow"),
    "jax": ("jax", "jaxlib"),
}
# Variables by which a shell or a batch system sends an engine to the wrong libraries or devices.
MISLEADING = (
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PYTHONPATH",
    "PYTHONHOME",
    "XLA_FLAGS",
    "JAX_PLATFORMS",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
)


def check_backend(installed: Mapping[str, str], expects_gpu: bool, seconds: float) -> list[Finding]:
    """The engine that Keras will use, and a trial of each engine that is installed."""
    findings, chosen = [], os.environ.get("KERAS_BACKEND", "tensorflow")
    trains = find_spec("keras") is not None
    if chosen not in ("tensorflow", "jax"):
        text = f"KERAS_BACKEND: expected tensorflow (the default) or jax, received {chosen!r}"
        findings.append(Finding("backend", "wrong", text, "unset KERAS_BACKEND"))
    elif trains and find_spec(chosen) is None:
        text = f"{chosen} is chosen and not installed"
        mend = to_install("jax" if chosen == "jax" else "train")
        if chosen == "tensorflow" and find_spec("jax") is not None:
            text, mend = f"{text}; JAX is", "export KERAS_BACKEND=jax"
        findings.append(Finding("backend", "wrong", text, mend))
    elif trains:
        named = "by KERAS_BACKEND" if "KERAS_BACKEND" in os.environ else "KERAS_BACKEND is not set"
        findings.append(Finding("backend", "ok", f"{chosen} ({named})", "", {"name": chosen}))
    for engine in ENGINES if trains else ["onnxruntime"]:
        if find_spec(engine) is None:
            continue  # its package is missing above, or nobody wants it
        tried = _engine(engine, installed, expects_gpu and engine == "jax", seconds)
        findings += tried
        if engine == "jax" and chosen == "tensorflow" and _sees_gpu(tried[0].values):
            text = "TensorFlow is chosen and finds no accelerator; JAX finds one"
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
        command = [sys.executable, "-P", "-m", "fmnist.doctor.probe", engine]
        answer = ask(command, seconds, environment)
        result, fault = _reading(answer, seconds)
        if result and expects_gpu and not _sees_gpu(result):
            fault = f"finds no GPU: {answer.complaint() or 'no reason given'}"
        return result, fault

    result, fault = attempt(environment)
    if not fault:
        return _works(engine, result)
    suspects = [name for name in MISLEADING if environment.get(name)]
    if suspects:
        # Of the search path stays what fmnist itself is found by.
        clean = {name: value for name, value in environment.items() if name not in suspects}
        clean["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        if not attempt(clean)[1]:
            return [
                _broken(
                    engine,
                    f"{fault}; works without {', '.join(suspects)}",
                    f"unset {' '.join(suspects)}",
                    result,
                )
            ]
    plugged = any(gpus.plugins(installed, kind) for kind in ("cuda", "rocm"))
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
        " ".join(dict.fromkeys(filter(None, [d["platform"], d["kind"], as_size(d["bytes"])])))
        for d in result["devices"]
    )
    return [
        Finding(engine, "ok", f"{result['version']} on {result['device']}", "", result),
        Finding("  devices", "ok", devices),
        Finding("  precision", "ok", f"{result['precision']}: {result['because']}"),
        Finding("  products", "ok", f"matrix products: {rates}"),
    ]
