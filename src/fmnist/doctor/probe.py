"""One engine, tried in a process of its own: `python -m fmnist.doctor.probe tensorflow`.

`doctor` starts it, since an engine may end or hang the process that imports it. Each step is named
on stdout before it is taken, and the result follows, one JSON object a line.
"""

import importlib
import json
import os
import sys
from typing import Any


def _onnxruntime() -> dict[str, Any]:
    engine = importlib.import_module("onnxruntime")
    return {"version": engine.__version__, "devices": engine.get_available_providers()}


def main(engine: str) -> None:
    """Try `engine`, one of onnxruntime, tensorflow and jax. What fails is raised."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print does not mix with the lines
    sys.stdout = sys.stderr  # nor comes, from its buffer, after what is raised

    def say(**line: Any) -> None:
        print(json.dumps(line), file=lines, flush=True)

    say(step=f"import {engine}")
    if engine == "onnxruntime":
        say(result=_onnxruntime())
        return
    version = importlib.import_module(engine).__version__
    say(step="import keras")
    os.environ["KERAS_BACKEND"] = engine
    importlib.import_module("keras")
    from fmnist.engine import backend, precision

    say(step="find devices")
    result = {"version": version, "device": backend.device(), "devices": backend.devices()}
    say(step="choose a precision")
    result["precision"], result["because"] = precision.choose_precision()
    say(step="multiply matrices")
    result["rates"] = {dtype: precision.product_rate(dtype) for dtype in ("float32", "bfloat16")}
    say(result=result)


if __name__ == "__main__":
    main(sys.argv[1])
