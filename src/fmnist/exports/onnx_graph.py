"""A Keras model of plain layers as an ONNX graph, its weights stored smaller, run by onnxruntime.

Each layer becomes the operator of its name, channels first as onnxruntime computes convolutions. By
ONNX's own helper and not by tf2onnx, which needs TensorFlow, also where Keras runs on JAX, and
makes 27 nodes of a plain network of four convolutions for 17 here.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from fmnist.errors import UsageError

OPSET, IR_VERSION = 17, 8  # of 2022: read by onnxruntime since 1.12 and by its web version


class _Graph:
    """Nodes and weights in the making."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add an operator with one output, which is named after it and returned."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def weight(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype, order="C"), name))
        return name


def convert(model: Any) -> ModelProto:
    """The graph of a `portable` model: input `images`, outputs `logits` and `probabilities`.

    The number of images n is free. Weights are float32. Raises UsageError for a layer that has no
    operator here.
    """
    graph = _Graph()
    names: dict[int, str] = {}
    flattened: dict[str, tuple[int, ...]] = {}
    for layer in model.layers:
        if type(layer).__name__ == "InputLayer":
            names[id(layer.output)] = layer.name
            continue
        given = layer.input if isinstance(layer.input, list) else [layer.input]
        inputs = [names[id(tensor)] for tensor in given]
        made = _operator(graph, layer, inputs, flattened)
        if type(layer).__name__ == "Flatten":
            flattened[made] = tuple(given[0].shape[1:])
        names[id(layer.output)] = made
    (images,) = model.inputs
    classes = model.output["logits"].shape[1]
    shape = ["n", *images.shape[1:]]
    takes = [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)]
    gives = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", classes])
        for name in ("logits", "probabilities")
    ]
    made = helper.make_model(
        helper.make_graph(graph.nodes, "fmnist", takes, gives, graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fmnist",
    )
    checker.check_model(made, full_check=True)
    return made


def _operator(
    graph: _Graph, layer: Any, inputs: list[str], flattened: Mapping[str, tuple[int, ...]]
) -> str:
    """Add a layer's operators; returns the name of what they give."""
    name: str = layer.name
    match type(layer).__name__:
        case "Reshape":  # images (n, h, w) to (n, 1, h, w); of Unsqueeze OpenCV wants a known n
            height, width, _ = layer.target_shape
            sides = graph.weight(f"{name}/shape", [-1, 1, height, width], np.int64)
            return graph.node("Reshape", [*inputs, sides], name)
        case "Rescaling":
            if name == "standard":
                inputs = [graph.node("Cast", inputs, f"{name}/float", to=TensorProto.FLOAT)]
            inputs.append(graph.weight(f"{name}/scale", layer.scale))
            if not layer.offset:
                return graph.node("Mul", inputs, name)
            scaled = graph.node("Mul", inputs, f"{name}/scaled")
            return graph.node("Add", [scaled, graph.weight(f"{name}/offset", layer.offset)], name)
        case "Conv2D":
            kernel, bias = layer.get_weights()
            inputs.append(graph.weight(f"{name}/kernel", kernel.transpose(3, 2, 0, 1)))
            inputs.append(graph.weight(f"{name}/bias", bias))
            return _activated(graph, layer, graph.node("Conv", inputs, name, **_sides(layer)))
        case "BatchNormalization":
            for what in ("gamma", "beta", "moving_mean", "moving_variance"):
                inputs.append(graph.weight(f"{name}/{what}", getattr(layer, what).numpy()))
            return graph.node("BatchNormalization", inputs, name, epsilon=layer.epsilon)
        case "MaxPooling2D":
            return graph.node("MaxPool", inputs, name, kernel_shape=[2, 2], strides=[2, 2])
        case "GlobalMaxPooling2D" | "GlobalMax":
            return graph.node("ReduceMax", inputs, name, axes=[2, 3], keepdims=0)
        case "GlobalAveragePooling2D":
            return graph.node("ReduceMean", inputs, name, axes=[2, 3], keepdims=0)
        case "Flatten":
            return graph.node("Flatten", inputs, name)
        case "Dense":
            kernel, bias = layer.get_weights()
            if inputs[0] in flattened:  # Keras flattened (h, w, channels), ONNX (channels, h, w)
                kernel = kernel.reshape(*flattened[inputs[0]], -1).transpose(2, 0, 1, 3)
                kernel = kernel.reshape(-1, len(bias))
            inputs.append(graph.weight(f"{name}/kernel", kernel))
            inputs.append(graph.weight(f"{name}/bias", bias))
            return _activated(graph, layer, graph.node("Gemm", inputs, name))
        case "Softmax":
            return graph.node("Softmax", inputs, name, axis=-1)
        case "Add":  # Sum takes any number of inputs, but onnxruntime fuses only Add
            return graph.node("Add" if len(inputs) == 2 else "Sum", inputs, name)
        case "ReLU":
            return graph.node("Relu", inputs, name)
        case kind:
            raise UsageError(f"onnx: layer {name} is a {kind}, which is not exported")


def _sides(layer: Any) -> dict[str, list[int]]:
    """Kernel, strides and padding of a convolution whose output is as large as its strides allow.

    What is padded goes to both sides, an odd one to the lower right, as in TensorFlow's "SAME".
    """
    before, after = [], []
    for side, size, stride in zip(
        layer.input.shape[1:3], layer.kernel_size, layer.strides, strict=True
    ):
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    kernel, strides = list(layer.kernel_size), list(layer.strides)
    return {"kernel_shape": kernel, "strides": strides, "pads": before + after}


def _activated(graph: _Graph, layer: Any, made: str) -> str:
    """With the activation that a layer holds, none or ReLU."""
    if layer.activation.__name__ == "linear":
        return made
    return graph.node("Relu", [made], f"{layer.name}/relu")


def save(model: Any, path: Path, storage: str, samples: NDArray[np.uint8]) -> None:
    """Write a `portable` model as an ONNX file.

    Args:
        storage: float32; float16, kernels stored so and computed in float32, which processors are
            faster in; int8, kernels and what lies between layers in 8 bits, a scale for each
            output channel, computed so: the largest and smallest values of `samples` set the rest.
        samples: training images uint8 (n, height, width), for int8.
    """
    made = convert(model)
    if storage == "float16":
        _store_as_float16(made)
    if storage == "int8":
        made = _quantised(made, samples, path)
    checker.check_model(made, full_check=True)
    path.write_bytes(made.SerializeToString())


def describe(path: Path, about: Mapping[str, Any], text: str, names: Mapping[int, str]) -> None:
    """Put `about` as JSON into a file's metadata, under `fmnist`; `names` and the doc string."""
    made = onnx.load(path)
    helper.set_model_props(made, {"fmnist": json.dumps(about), "names": str(dict(names))})
    made.doc_string = made.graph.input[0].doc_string = text
    path.write_bytes(made.SerializeToString())


def _store_as_float16(made: ModelProto) -> None:
    """Halve the kernels; onnxruntime turns them back once, when it loads them."""
    casts = []
    for tensor in made.graph.initializer:
        array, name = numpy_helper.to_array(tensor), tensor.name
        if array.dtype == np.float32 and array.ndim > 1:
            if np.abs(array).max() > np.finfo(np.float16).max:
                raise UsageError("float16: a weight is larger than 65,504; use int8 or float32")
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}/float16"))
            casts.append(
                helper.make_node("Cast", [tensor.name], [name], name, to=TensorProto.FLOAT)
            )
    nodes = [*casts, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)


def _quantised(made: ModelProto, samples: NDArray[np.uint8], path: Path) -> ModelProto:
    """Integer arithmetic by onnxruntime's own tool; pixels and logits stay float32."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.parts = (samples[i : i + 100] for i in range(0, len(samples), 100))

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            part = next(self.parts, None)
            return None if part is None else {"images": part}

    # There is nothing to fold or infer before; without this the tool logs that there might be.
    helper.set_model_props(made, {"onnx.quant.pre_process": "onnxruntime.quant"})
    heads = [n.name for n in made.graph.node if n.name.endswith("logits")]
    quantize_static(
        made,
        path,
        Samples(),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=["standard", *heads],
        op_types_to_quantize=["Conv", "MaxPool", "Add", "Relu", "Gemm"],
    )
    quantised = onnx.load(path)
    del quantised.graph.value_info[:]
    for node in quantised.graph.node:  # two or three for each layer: kilobytes of names
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = ""
    return quantised


def load(path: Path, threads: int = 0) -> Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]:
    """A function from uint8 (n, height, width) to the outputs, as onnxruntime computes them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; it warns of each weight that it turns back
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = ["logits", "probabilities"]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))
