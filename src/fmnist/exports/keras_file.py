"""A `portable` model as a .keras file that each Keras since 3.5 reads."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmnist.engine import keras

# What later versions write and earlier ones refuse, where it says no more than its absence does.
LATER: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("input_axes", "output_axes", "quantization_config"), (None,)),
    "ragged": (False, None),
    "sparse": (None,),
    "renorm": (False,),
    "renorm_clipping": (None,),
    "renorm_momentum": (0.99,),
    "use_gate": (False,),
    "sliding_window": (None,),
}


def save(model: keras.Model, path: Path) -> None:
    """Write the model, compiled so that `evaluate(images, labels)` works once it is loaded."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        optimizer="sgd",
        loss={"logits": loss, "probabilities": None},
        metrics={"logits": ["accuracy"]},
    )
    model.save(path)
    _change(path, "config.json", _earlier)


def describe(path: Path, about: Mapping[str, Any]) -> None:
    """Put `about` into the file's own `metadata.json`, beside the version that wrote it."""
    _change(path, "metadata.json", lambda metadata: metadata | about)


def _change(path: Path, name: str, change: Any) -> None:
    """Change one of the JSON files in a .keras file."""
    with zipfile.ZipFile(path) as old:
        parts = {each: old.read(each) for each in old.namelist()}
    parts[name] = json.dumps(change(json.loads(parts[name]))).encode()
    with zipfile.ZipFile(path, "w") as new:
        for each, content in parts.items():
            new.writestr(each, content)


def _earlier(value: Any) -> Any:
    """A configuration without what LATER names."""
    if isinstance(value, list):
        return [_earlier(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {k: v for k, v in value.items() if k not in LATER or v not in LATER[k]}
    return {k: _earlier(v) for k, v in kept.items()}
