"""A user's Keras network as options of the model `own`: checked, named, counted."""

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from fmnist.engine.networks import Shape, numbered, own
from fmnist.errors import UsageError
from fmnist.recipes.networks.own import Own, text

Network: TypeAlias = keras.Model | Callable[[Shape, int], keras.Model]
UNUSED = ("build_config", "compile_config")  # layers are built when they are called
RESERVED = {  # by exports.portable
    *("images", "channel", "standard", "temperature", "logits", "probabilities", "head", "sum"),
    *("bytes", "whole", "rest", "square", "most", "large", "power", "infinite"),
}
CHANCES = ("softmax", "sigmoid", "log_softmax", "hard_sigmoid")


def describe(network: Network, shape: Shape, classes: int) -> Own:
    """The options for a network, or for what `network(shape, classes)` returns.

    Args:
        network: from standardised float32 images (n, height, width, 1) to logits (n, classes), of
            Keras' own layers. Its weights are not taken: training draws new ones.
        shape: (height, width, 1) of the images.
        classes: how many there are.

    Raises UsageError for anything else.
    """
    model = network if isinstance(network, keras.Model) else network(shape, classes)
    if not isinstance(model, keras.Model):
        raise UsageError(f"network: expected a keras.Model, received {type(model).__name__}")
    if isinstance(model, keras.Sequential) and not model.built:
        model.build((None, *shape))
    if not getattr(model, "inputs", None):
        raise UsageError(
            f"network: expected a functional or sequential model, received {type(model).__name__}; "
            "that of a subclass is code, which a run does not keep"
        )
    own.require_shapes(model, shape, classes)
    _require_logits(model)
    architecture = _architecture(model)
    _require_free_names(architecture)
    with own.nothing_allocated():
        read = own.read(architecture)
        return Own(text(architecture), read.count_params(), own.operations(read))


def _require_free_names(architecture: dict[str, Any]) -> None:
    """Raise UsageError for names that an exported file's own layers have."""
    names = {layer["config"]["name"] for layer in _layers(architecture["config"])[:-1]}
    if taken := sorted(names & RESERVED):
        raise UsageError(
            f"network: expected other names than {', '.join(taken)}, which an exported file has "
            "for layers of its own; rename them"
        )


def _require_logits(model: keras.Model) -> None:
    """Raise UsageError for a network that ends in chances."""
    last = model.outputs[0]._keras_history.operation
    while isinstance(last, keras.Model):
        last = last.outputs[0]._keras_history.operation
    activation = getattr(last, "activation", None)
    names = {type(last).__name__.lower(), getattr(activation, "__name__", "")}
    if found := names.intersection(CHANCES):
        raise UsageError(
            f"network: expected logits, received a last layer with {found.pop()}; leave it out"
        )


def _architecture(model: keras.Model) -> dict[str, Any]:
    """Keras' JSON of a model, whose layers have the names of a fresh process."""
    whole = keras.Model(model.inputs[0], model.outputs[0])  # a sequence becomes functional too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a lambda is refused below
            written = json.loads(json.dumps(keras.saving.serialize_keras_object(whole)))
    except Exception as error:  # a layer of the user's own may raise anything
        raise UsageError(
            "network: expected Keras' own layers, received one that has no JSON "
            f"({own.first_line(error)})"
        ) from None
    architecture: dict[str, Any] = _without(written, UNUSED)
    own.require_keras_own(architecture)
    _settle_names(architecture, Counter())
    return architecture


def _without(values: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(values, list):
        return [_without(value, keys) for value in values]
    if isinstance(values, dict):
        return {k: _without(value, keys) for k, value in values.items() if k not in keys}
    return values


def _settle_names(values: Any, counts: Counter[str]) -> None:
    """Number anew, in order, what Keras numbered by all that a process had made before."""
    if isinstance(values, list):
        for value in values:
            _settle_names(value, counts)
    if not isinstance(values, dict):
        return
    config: Any = values.get("config")
    before = [each["config"]["name"] for each in _layers(config)]
    if "class_name" in values and isinstance(config, dict) and "name" in config:
        kind = _snake_case(values["class_name"])
        if made := re.fullmatch(rf"((forward_|backward_)?{kind})(_\d+)?", config["name"]):
            config["name"] = numbered(made[1], counts[made[1]])
            counts[made[1]] += 1
        if "name" in values:
            values["name"] = config["name"]
    for value in values.values():
        _settle_names(value, counts)
    after = {old: each["config"]["name"] for old, each in zip(before, _layers(config), strict=True)}
    for each in _layers(config):
        _rename_calls(each.get("inbound_nodes"), after)
    for end in ("input_layers", "output_layers") if before else ():
        config[end] = _renamed(config.get(end), after)


def _layers(config: Any) -> list[Any]:
    """The layers of a network's options; none of a layer's."""
    found = config.get("layers") if isinstance(config, dict) else None
    return found if isinstance(found, list) else []


def _rename_calls(values: Any, names: dict[str, str]) -> None:
    """Let the calls of a layer come from layers of other names."""
    if isinstance(values, list):
        for value in values:
            _rename_calls(value, names)
    elif isinstance(values, dict):
        for key, value in values.items():
            if key == "keras_history":
                value[0] = names[value[0]]
            else:
                _rename_calls(value, names)


def _renamed(ends: Any, names: dict[str, str]) -> Any:
    """`[name, call, tensor]`, or a list of such, by other names."""
    if isinstance(ends, list):
        return [_renamed(each, names) for each in ends]
    return names.get(ends, ends) if isinstance(ends, str) else ends


def _snake_case(name: str) -> str:
    """As Keras makes a layer's name of its class."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
