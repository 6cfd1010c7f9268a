"""Keras' layers as ONNX operators: what each becomes, channels first, and which are refused.

A tensor of Keras (n, height, width, channels) is (n, channels, height, width) here; one of two axes
stays as it is.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from fmnist.errors import UsageError

IDENTITIES = ("Dropout", "ActivityRegularization", "Identity", "ConvertToTensor")  # when it answers
# Kinds of layer, and Keras' operations of the same name, that join tensors of equal rank.
JOINTS = {
    "Add": "Add",  # onnxruntime fuses it, which it does not with Sum
    "Subtract": "Sub",
    "Multiply": "Mul",
    "Maximum": "Max",
    "Minimum": "Min",
    "Average": "Mean",
}
ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "elu": ("Elu", {}),
    "selu": ("Selu", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_silu": ("HardSwish", {}),
}


class Graph:
    """Nodes and weights in the making; whether mirror images go through them too, see `convert`."""

    def __init__(self, flip: bool, classes: int) -> None:
        self.flip, self.classes = flip, classes
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.takers: dict[int, list[Any]] = defaultdict(list)  # layers by the id of what they take
        self.flattened: dict[str, tuple[int, ...]] = {}  # (h, w, channels) of what is in our order

    def note(self, call: Any) -> None:
        """Remember which layer takes which of Keras' tensors."""
        for tensor in call.input_tensors:
            self.takers[id(tensor)].append(call)

    def unused(self, name: str) -> str:
        """The name, or one that no node has yet: a layer may be called several times."""
        while name in {node.name for node in self.nodes}:
            name += "_again"
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add an operator with one output, which is named after it and returned."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def weight(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant and return its name."""
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype, order="C"), name))
        return name


def operator(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    """Add the operators of a layer's `call`, one of Keras' nodes; returns the name of its output.

    Raises UsageError for a layer, or an option of it, that has no operator here.
    """
    layer, kind = call.operation, type(call.operation).__name__
    ranks = {len(tensor.shape) for tensor in call.input_tensors}
    if ranks not in ({2}, {4}):
        raise _refused(layer, f"a {kind} of other tensors than images or vectors")
    if getattr(layer, "data_format", "") == "channels_first":
        raise _refused(layer, f"a {kind} of channels first")
    if getattr(layer, "axis", -1) not in (-1, max(ranks) - 1):
        raise _refused(layer, f"a {kind} over another axis than the last")
    make = _KINDS.get(kind)
    if kind in IDENTITIES:
        return inputs[0]
    if kind in JOINTS and len(inputs) > 1:
        if kind == "Average" or (kind == "Add" and len(inputs) > 2):
            return graph.node({"Add": "Sum", "Average": "Mean"}[kind], inputs, name)
        return _chain(graph, JOINTS[kind], inputs, name)
    if kind == "Concatenate":
        return graph.node("Concat", inputs, name, axis=1)
    if make is None or len(inputs) != 1:
        raise _refused(layer, f"a {kind}")
    return make(graph, call, inputs, name)


def _refused(layer: Any, what: str) -> UsageError:
    return UsageError(
        f"onnx: layer {layer.name} is {what}, which is not exported; use --format keras or litert"
    )


def _chain(graph: Graph, kind: str, inputs: list[str], name: str) -> str:
    made = inputs[0]
    for i, other in enumerate(inputs[1:], 1):
        made = graph.node(kind, [made, other], name if other is inputs[-1] else f"{name}/{i}")
    return made


def activated(graph: Graph, layer: Any, activation: Any, before: str, name: str) -> str:
    """What a layer gives, after its activation."""
    kind = getattr(activation, "__name__", "")
    if kind == "linear":
        return before
    if kind == "silu":
        return graph.node("Mul", [before, graph.node("Sigmoid", [before], f"{name}/gate")], name)
    if kind == "relu6":
        return _clipped(graph, before, name, 6.0)
    if kind == "gelu":
        scaled = graph.node("Mul", [before, graph.weight(f"{name}/root", 0.5**0.5)], f"{name}/x")
        erf = graph.node("Erf", [scaled], f"{name}/erf")
        gate = graph.node("Add", [erf, graph.weight(f"{name}/one", 1.0)], f"{name}/gate")
        half = graph.node("Mul", [before, graph.weight(f"{name}/half", 0.5)], f"{name}/halved")
        return graph.node("Mul", [half, gate], name)
    if kind not in ACTIVATIONS:
        raise _refused(layer, f"a {type(layer).__name__} with activation {kind or activation!r}")
    operator, options = ACTIVATIONS[kind]
    return graph.node(operator, [before], name, **options)


def _clipped(graph: Graph, before: str, name: str, most: float) -> str:
    ends = [graph.weight(f"{name}/least", 0.0), graph.weight(f"{name}/most", most)]
    return graph.node("Clip", [before, *ends], name)


def sides(call: Any, kernel: Sequence[int], dilation: Sequence[int] = (1, 1)) -> dict[str, Any]:
    """Kernel, strides and padding of a convolution or pooling.

    What is padded goes to both sides, an odd one to the lower right, as in TensorFlow's "SAME".
    """
    layer, before, after = call.operation, [0, 0], [0, 0]
    if layer.padding == "same":
        for i, (side, size, stride, spread) in enumerate(
            zip(call.input_tensors[0].shape[1:3], kernel, layer.strides, dilation, strict=True)
        ):
            reach = (size - 1) * spread + 1
            total = max((-(-side // stride) - 1) * stride + reach - side, 0)
            before[i], after[i] = total // 2, total - total // 2
    return {"kernel_shape": list(kernel), "strides": list(layer.strides), "pads": before + after}


def _convolution(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    """A convolution; a depthwise one; or both in a row, as `SeparableConv2D` has them."""
    layer = call.operation
    kind, spread = type(layer).__name__, layer.dilation_rate
    arrays = [np.asarray(each) for each in layer.get_weights()]
    bias = arrays.pop() if layer.use_bias else None
    shape = sides(call, layer.kernel_size, spread) | {"dilations": list(spread)}
    if tuple(spread) == (1, 1):
        del shape["dilations"]
    made, last = inputs[0], name
    if kind != "Conv2D":
        kernel = arrays[0].transpose(2, 3, 0, 1)
        channels = kernel.shape[0]
        kernel = kernel.reshape(-1, 1, *kernel.shape[2:])
        only = kind == "DepthwiseConv2D"
        last = name if only else f"{name}/depthwise"
        weights = [graph.weight(f"{last}/kernel", kernel)]
        if only and bias is not None:
            weights.append(graph.weight(f"{last}/bias", bias))
        made = graph.node("Conv", [made, *weights], last, group=channels, **shape)
        shape = {"kernel_shape": [1, 1]}
    if kind != "DepthwiseConv2D":
        weights = [graph.weight(f"{name}/kernel", arrays[-1].transpose(3, 2, 0, 1))]
        if bias is not None:
            weights.append(graph.weight(f"{name}/bias", bias))
        groups = {"group": layer.groups} if getattr(layer, "groups", 1) > 1 else {}
        made = graph.node("Conv", [made, *weights], name, **shape, **groups)
    return _ended(graph, layer, made, name)


def _norm(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    layer = call.operation
    width = layer.moving_mean.shape[0]
    for what, default in (("gamma", 1), ("beta", 0), ("moving_mean", 0), ("moving_variance", 1)):
        array = getattr(layer, what)
        value = np.full(width, default) if array is None else array.numpy()
        inputs = [*inputs, graph.weight(f"{name}/{what}", value)]
    return graph.node("BatchNormalization", inputs, name, epsilon=layer.epsilon)


def _pooling(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    layer = call.operation
    kind = "MaxPool" if type(layer).__name__.startswith("Max") else "AveragePool"
    shape = sides(call, layer.pool_size)
    if not any(shape["pads"]):
        del shape["pads"]
    return graph.node(kind, inputs, name, **shape)


def _everywhere(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    layer = call.operation
    kind = "ReduceMax" if "Max" in type(layer).__name__ else "ReduceMean"
    return graph.node(kind, inputs, name, axes=[2, 3], keepdims=int(layer.keepdims))


def _flatten(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    """In our order where dense layers alone take it, whose kernels can follow; else in Keras'."""
    if len(call.input_tensors[0].shape) == 2:
        return graph.node("Flatten", inputs, name)
    if _goes_to_dense(call.output_tensors[0], graph):
        graph.flattened[name] = tuple(call.input_tensors[0].shape[1:])
        return graph.node("Flatten", inputs, name)
    turned = graph.node("Transpose", inputs, f"{name}/last", perm=[0, 2, 3, 1])
    return graph.node("Flatten", [turned], name)


def _goes_to_dense(tensor: Any, graph: Graph) -> bool:
    """Whether nothing but dense layers takes a tensor, also after dropout."""
    takers = graph.takers[id(tensor)]
    return bool(takers) and all(
        type(call.operation).__name__ == "Dense"
        or (
            type(call.operation).__name__ in IDENTITIES
            and _goes_to_dense(call.output_tensors[0], graph)
        )
        for call in takers
    )


def _dense(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    layer = call.operation
    if len(call.input_tensors[0].shape) != 2:
        raise _refused(layer, "a Dense of images")
    kernel, bias = layer.get_weights() if layer.use_bias else (*layer.get_weights(), None)
    if inputs[0] in graph.flattened:  # Keras flattened (h, w, channels), ONNX (channels, h, w)
        kernel = kernel.reshape(*graph.flattened[inputs[0]], -1).transpose(2, 0, 1, 3)
        kernel = kernel.reshape(-1, kernel.shape[-1])
    inputs = [*inputs, graph.weight(f"{name}/kernel", kernel)]
    if bias is not None:
        inputs.append(graph.weight(f"{name}/bias", bias))
    return _ended(graph, layer, graph.node("Gemm", inputs, name), name)


def _ended(graph: Graph, layer: Any, made: str, name: str) -> str:
    """With the layer's activation; the head, whose name is the output's, has none."""
    kind = layer.activation.__name__
    if name == "logits" and kind != "linear":
        raise _refused(layer, f"a last layer with activation {kind}")
    return activated(graph, layer, layer.activation, made, f"{name}/{kind}")


def _padding(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    layer = call.operation
    (top, bottom), (left, right) = layer.padding
    pads = graph.weight(f"{name}/pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    return graph.node("Pad", [*inputs, pads], name)


def _reshape(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    """As Keras has it: channels go last before, and first afterwards."""
    layer = call.operation
    shape, made = tuple(call.output_tensors[0].shape[1:]), inputs[0]
    if len(shape) not in (1, 3):
        raise _refused(layer, f"a Reshape to {len(shape)} axes")
    if len(call.input_tensors[0].shape) == 4:
        made = graph.node("Transpose", [made], f"{name}/last", perm=[0, 2, 3, 1])
    sides = graph.weight(f"{name}/shape", [-1, *shape], np.int64)
    if len(shape) == 1:
        return graph.node("Reshape", [made, sides], name)
    made = graph.node("Reshape", [made, sides], f"{name}/shaped")
    return graph.node("Transpose", [made], name, perm=[0, 3, 1, 2])


def _activation(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    layer = call.operation
    made = activated(graph, layer, layer.activation, inputs[0], name)
    return made if made == name else graph.node("Identity", [made], name)


def _operation(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    """One of Keras' functions, whose class is named after it: Relu, Sigmoid, …"""
    layer = call.operation
    known = {each.replace("_", ""): each for each in ACTIVATIONS}
    kind = known.get(type(layer).__name__.lower(), "")
    if len(call.arguments.args) != 1 or call.arguments.kwargs or kind == "leaky_relu":
        raise _refused(layer, f"a {type(layer).__name__} with options")
    operator, options = ACTIVATIONS[kind]
    return graph.node(operator, inputs, name, **options)


def _relu(graph: Graph, call: Any, inputs: list[str], name: str) -> str:
    layer = call.operation
    if layer.negative_slope or layer.threshold:
        raise _refused(layer, "a ReLU with a slope or threshold")
    if layer.max_value is not None:
        return _clipped(graph, inputs[0], name, float(layer.max_value))
    return graph.node("Relu", inputs, name)


_KINDS: dict[str, Callable[[Graph, Any, list[str], str], str]] = {
    "Dense": _dense,
    "Flatten": _flatten,
    "Conv2D": _convolution,
    "DepthwiseConv2D": _convolution,
    "SeparableConv2D": _convolution,
    "BatchNormalization": _norm,
    "MaxPooling2D": _pooling,
    "AveragePooling2D": _pooling,
    "GlobalMaxPooling2D": _everywhere,
    "GlobalAveragePooling2D": _everywhere,
    "ZeroPadding2D": _padding,
    "Reshape": _reshape,
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": lambda graph, call, inputs, name: graph.node(
        "LeakyRelu", inputs, name, alpha=float(call.operation.negative_slope)
    ),
    "ELU": lambda graph, call, inputs, name: graph.node(
        "Elu", inputs, name, alpha=float(call.operation.alpha)
    ),
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh", "Elu", "Selu", "Softplus", "Softsign"), _operation),
}
