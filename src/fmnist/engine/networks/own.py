"""How the network `own` is built: from Keras' JSON, of which nothing but Keras' own layers is made.

Each class is looked up by its module and name before Keras gets the JSON, so that a stranger's file
can run no code and no layer reads a file.
"""

import contextlib
import copy
import importlib
import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import Any

import keras
from keras import layers
from keras.src.backend.common import global_state

from fmnist.engine import backend
from fmnist.engine.networks import Shape, augmentation
from fmnist.errors import UsageError
from fmnist.recipes.networks.own import Own
from fmnist.recipes.recipe import Recipe

MODELS = ("Functional", "Sequential")
PLAIN = ("keras.initializers", "keras.regularizers", "keras.constraints")  # beside its layers
VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "slice")  # of a call
# Preprocessing that neither draws nor learns nor reads a file. Its other layers do.
PREPROCESSING = ("Rescaling", "Resizing", "CenterCrop")
REGULARISERS = ("Dropout", "ActivityRegularization")  # the others draw by a count of calls
DRAWING = {
    *(name for name in vars(layers) if name.startswith("Random")),
    *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise"),
    *("GaussianDropout", "AlphaDropout", "AugMix", "CutMix", "MixUp", "RandAugment"),
    *("Normalization", "Discretization", "TextVectorization", "StringLookup"),
}
FIRST_STREAM = 4  # of the dropout layers' draws; those below are the augmentation's


def build(options: Own, shape: Shape, classes: int, recipe: Recipe) -> keras.Model:
    """The recipe's augmentation, then the user's layers. Their own initialisers, seeded.

    Raises UsageError for a network that does not take these images, does not give `classes` logits
    or has other counts than the options say.
    """
    architecture = _checked(options)
    with nothing_allocated():
        require_counts(read(architecture), options)
    try:
        ready = prepared(architecture, recipe.seed)
    except (LookupError, TypeError, AttributeError, StopIteration) as error:
        raise UsageError(f"model own: expected Keras' JSON, found another ({error!r})") from None
    network = read(ready)
    require_shapes(network, shape, classes)
    image = layers.Input(shape, name="image")
    x = image
    for layer in augmentation(recipe):
        x = layer(x)
    logits = network.call(x)  # not network(x): its layers are then this model's
    if logits.dtype != "float32":
        logits = layers.Activation("linear", dtype="float32", name="float32_logits")(logits)
    try:
        return keras.Model(image, logits, name="own")
    except ValueError as error:  # a layer has the name of one of ours
        raise UsageError(f"model own: Keras says: {first_line(error)}") from None


def _checked(options: Own) -> dict[str, Any]:
    """The architecture of the options, of Keras' own layers alone. Raises UsageError."""
    try:
        architecture: dict[str, Any] = json.loads(options.architecture)
        require_keras_own(architecture)
    except RecursionError:
        raise UsageError("model own: expected models in models, found too many levels") from None
    if architecture.get("class_name") != "Functional" or not _layers(architecture):
        raise UsageError("model own: expected a functional model with layers, found none")
    return architecture


def _layers(values: dict[str, Any]) -> list[Any]:
    config = values.get("config")
    found = config.get("layers") if isinstance(config, dict) else None
    return found if isinstance(found, list) else []


def read(architecture: dict[str, Any]) -> keras.Model:
    """The network of an architecture that was checked, new. Raises UsageError where it makes none.

    Names are those of a fresh process, however many layers this one has made.
    """
    names = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", defaultdict(int))
    try:
        whole = copy.deepcopy(architecture)  # Keras takes it apart
        network = keras.saving.deserialize_keras_object(whole, safe_mode=True)
    except Exception as error:  # Keras raises nearly anything for a config that does not fit
        if backend.is_out_of_memory(error):
            raise
        raise UsageError(f"model own: Keras says: {first_line(error)}") from None
    finally:
        global_state.set_global_attribute("object_name_uids", names)
    if not isinstance(network, keras.Model) or not getattr(network, "inputs", None):
        raise UsageError("model own: expected a network with inputs and outputs, found none")
    paths = [weight.path for weight in network.weights]
    if twice := {path for path in paths if paths.count(path) > 1}:
        raise UsageError(
            f"model own: expected weights of different names, found two {min(twice)}; give each "
            "layer a name of its own"
        )
    return network


def first_line(error: Exception) -> str:
    """What an exception says first, else its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextlib.contextmanager
def nothing_allocated() -> Iterator[None]:
    """Networks made inside have shapes and no values, so that their size can be looked at first."""
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:  # Keras would give them values later
        global_state.set_global_attribute("uninitialized_variables", [])


def require_keras_own(values: Any) -> None:
    """Raise UsageError for an object in Keras' JSON that is not Keras' own, by its name."""
    if isinstance(values, dict):
        if "class_name" in values:
            _require_class(values)
        for value in values.values():
            require_keras_own(value)
    elif isinstance(values, list):
        for value in values:
            require_keras_own(value)


def _require_class(values: dict[str, Any]) -> None:
    module, name = str(values.get("module")), str(values["class_name"])
    registered = values.get("registered_name")
    shown = registered or name
    if name == "function":
        shown = f"function {values.get('config')}"
    if module == "keras.layers" and name in DRAWING:
        raise UsageError(
            f"model own: expected no layer that draws at random or learns by adapt(), received "
            f"{name}: the recipe augments (crop, flip, cutout); keras.layers.Dropout is taken"
        )
    if registered not in (None, name) or not _is_keras_own(module, name):
        raise UsageError(
            f"model own: expected Keras' own layers, found {shown}; build it from keras.layers, "
            "since a run keeps no code"
        )
    config = values.get("config")
    config = config if isinstance(config, dict) else {}
    if name not in ("Dropout", *MODELS):
        for option in ("dropout", "recurrent_dropout", "stateful"):
            if config.get(option):
                raise UsageError(
                    f"model own: {name}: expected {option}=0, since what it draws or keeps depends "
                    f"on earlier calls, received {config[option]}; use keras.layers.Dropout"
                )
    elif config.get("noise_shape"):
        raise UsageError("model own: Dropout: expected no noise_shape, which is not supported")


def _is_keras_own(module: str, name: str) -> bool:
    """Whether a class is one of Keras' that computes by its inputs, weights and options alone."""
    if name in VALUES:
        return module in ("None", "builtins")
    if module in ("keras", "keras.src.models.functional", "keras.src.models.sequential"):
        return name in (*MODELS, "DTypePolicy")
    if module.startswith("keras.src.ops."):
        found = _member(module, name)
        return isinstance(found, type) and issubclass(found, keras.Operation)
    if module in PLAIN:
        return isinstance(_member(module, name), type)
    found = _member(module, name) if module == "keras.layers" else None
    if not isinstance(found, type) or not issubclass(found, layers.Layer):
        return False
    place = found.__module__.split(".")  # keras.src.layers.ROOM.FILE
    if place[:3] != ["keras", "src", "layers"] or len(place) < 4:
        return False
    allowed = {"preprocessing": PREPROCESSING, "regularization": REGULARISERS}
    return name in allowed.get(place[3], (name,)) and name not in ("Lambda", "Layer", "Wrapper")


def _member(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return None


def prepared(architecture: dict[str, Any], seed: int) -> dict[str, Any]:
    """An architecture as it is trained, in the precision of now.

    Initialisers without a seed get one. Dropout becomes fmnist's, which draws by seed, update and
    place. The last layer computes in float32.
    """
    policy, numbers, streams = keras.config.dtype_policy().name, count(), count(FIRST_STREAM)

    def change(values: Any) -> Any:
        if isinstance(values, list):
            return [change(value) for value in values]
        if not isinstance(values, dict):
            return values
        changed = {key: change(value) for key, value in values.items()}
        if "seed" in changed and changed["seed"] is None:
            changed["seed"] = (seed * 1000 + next(numbers)) % 2**31
        name = changed.get("class_name")
        config: Any = changed.get("config")
        if name == "DTypePolicy" and config == {"name": "float32"}:
            changed["config"] = {"name": policy}
        if name == "Dropout":
            kept = {key: config[key] for key in ("name", "rate", "dtype") if key in config}
            return changed | {
                "module": "fmnist.engine.augment",
                "registered_name": "fmnist>Dropout",
                "config": kept | {"stream": next(streams)},
            }
        return changed

    changed: dict[str, Any] = change(architecture)
    _head(changed)["dtype"] = "float32"
    return changed


def _head(values: dict[str, Any]) -> dict[str, Any]:
    """The options of the layer that a network ends with."""
    config: dict[str, Any] = values["config"]
    if values["class_name"] not in MODELS:
        return config
    last = config["layers"][-1]
    if outputs := config.get("output_layers"):
        name = outputs[0] if isinstance(outputs[0], str) else outputs[0][0]
        last = next(each for each in config["layers"] if each["name"] == name)
    return _head(last)


def copy_of(options: Own, model: keras.Model, name: str, head: str = "") -> keras.Model:
    """A trained model's network alone, of Keras' own layers; `head` names its last layer anew."""
    architecture = _checked(options)
    architecture["config"]["name"] = name
    if head:
        _head(architecture)["name"] = head
    network = read(architecture)
    for weight, trained in zip(network.weights, model.weights, strict=True):
        weight.assign(trained)
    return network


def require_counts(network: keras.Model, options: Own) -> None:
    """Raise UsageError unless a network is as large as its options say."""
    found = network.count_params(), operations(network)
    if found != (options.parameter_count, options.operation_count):
        raise UsageError(
            f"model own: expected {options.parameter_count:,} parameters and "
            f"{options.operation_count:,} operations, found {found[0]:,} and {found[1]:,}"
        )


def require_shapes(network: keras.Model, shape: Shape, classes: int) -> None:
    """Raise UsageError unless a network takes images of `shape` and gives `classes` logits."""
    for what, tensors, wanted in (
        ("input", network.inputs, shape),
        ("output", network.outputs, (classes,)),
    ):
        if len(tensors) != 1:
            raise UsageError(f"network: expected one {what}, received {len(tensors)}")
        given = tuple(tensors[0].shape)[1:]
        fits = len(given) == len(wanted) and all(
            a in (None, b) for a, b in zip(given, wanted, strict=True)
        )
        if not fits or (what == "output" and None in given):
            more = ", a logit a class" if what == "output" else ", standardised images"
            raise UsageError(f"network: expected {what} shape {wanted}{more}, received {given}")
    if "float" not in network.inputs[0].dtype:
        raise UsageError(
            f"network: expected an input of float32, received {network.inputs[0].dtype}; images "
            "come standardised"
        )


def operations(network: keras.Model) -> int:
    """Floating-point operations of convolutions and matrix products for an image, forward.

    A product and a sum are 2. Each kernel works once at each place of the output; of the input
    where the layer spreads it; at each step of a sequence. Attention multiplies twice more.
    """
    total = 0
    for layer in network.layers:
        calls = layer._inbound_nodes
        if isinstance(network, keras.Sequential):
            calls = calls[-1:]  # the others are from when it was shorter
        if isinstance(layer, keras.Model):
            total += operations(layer) * len(calls)
            continue
        size = sum(
            _product(weight.shape) for weight in layer.weights if weight.name.endswith("kernel")
        )
        for call in calls if size else ():
            given, made = call.input_tensors, call.output_tensors[0].shape
            places = _product(made[1:-1])
            if isinstance(layer, layers.RNN | layers.Bidirectional):
                places = given[0].shape[1] or 1
            elif "Transpose" in type(layer).__name__:
                places = _product(given[0].shape[1:-1])
            total += 2 * size * places
            if isinstance(layer, layers.MultiHeadAttention | layers.GroupQueryAttention):
                width = layer.get_config()
                depth = width.get("key_dim") or width["head_dim"]
                heads = width.get("num_heads") or width["num_query_heads"]
                keys = _product(given[1].shape[1:-1]) if len(given) > 1 else places
                total += 2 * heads * places * keys * (depth + (width.get("value_dim") or depth))
    return total


def _product(shape: Any) -> int:
    result = 1
    for side in shape:
        result *= side or 1
    return result
