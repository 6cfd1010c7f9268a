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
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from fmnist.engine import keras
from fmnist.errors import UsageError
from fmnist.exports import onnx_layers
from fmnist.exports.onnx_layers import Graph

HEAD, FIRST = "logits", "standard"  # the network's last layer, and what comes before its first
OUTSIDE = ("channel", "probabilities")  # the portable model's own layers around the network
OPSET, IR_VERSION = 17, 8  # of 2022: read by onnxruntime since 1.12 and by its web version


def convert(model: Any, *, flip: bool = False) -> ModelProto:
    """The graph of a `portable` model: input `images`, outputs `logits` and `probabilities`.

    The number of images n is free. Weights are float32. With `flip` the logits are the mean of the
    image's and its mirror image's, which goes through the same weights: twice the operations.
    Raises UsageError for a layer that has no operator here.
    """
    graph = Graph(flip, model.output["logits"].shape[1])
    names = {id(model.inputs[0]): "images"}
    _add(graph, model, names)
    for name, tensor in model.output.items():
        if names[id(tensor)] != name:
            graph.node("Identity", [names[id(tensor)]], name)
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


def _add(graph: Graph, model: Any, names: dict[int, str], prefix: str = "") -> None:
    """Add a model's layers in their order, also those of models in it.

    `names` says what Keras' tensors are called in the graph, by their id: of those that the model
    takes before, of all afterwards.
    """
    calls = [call for _, level in sorted(model._nodes_by_depth.items()) for call in level]
    for call in calls:
        graph.note(call)
    for call in reversed(calls):
        if call.is_input:
            continue
        layer, name = call.operation, graph.unused(prefix + call.operation.name)
        inputs = [names[id(tensor)] for tensor in call.input_tensors]
        if isinstance(layer, keras.Model):
            inner = keras.Model(layer.inputs, layer.outputs)  # a sequence's layers have their order
            names[id(inner.inputs[0])] = inputs[0]
            _add(graph, inner, names, f"{name}/")
            made = names[id(inner.outputs[0])]
        elif name in OUTSIDE or type(layer).__name__ == "Rescaling":
            made = _operator(graph, layer, inputs, name)
        elif name == HEAD and graph.flip:
            made = _mean_of_both(graph, onnx_layers.operator(graph, call, inputs, f"both/{HEAD}"))
        else:
            made = onnx_layers.operator(graph, call, inputs, name)
        if name == FIRST and graph.flip:
            made = _with_mirror_images(graph, made)
        names[id(call.output_tensors[0])] = made


def _with_mirror_images(graph: Graph, images: str) -> str:
    """Images (n, 1, h, w) and, behind all of them, their mirror images: (2n, 1, h, w)."""
    ends = [
        graph.weight(f"mirror/{name}", [value], np.int64)
        for name, value in (("first", -1), ("end", -(2**31)), ("axis", 3), ("step", -1))
    ]
    mirrored = graph.node("Slice", [images, *ends], "mirror")
    return graph.node("Concat", [images, mirrored], "both", axis=0)


def _mean_of_both(graph: Graph, logits: str) -> str:
    """Logits (n, classes) of those of images and mirror images, (2n, classes)."""
    shape = graph.weight("both/shape", [2, -1, graph.classes], np.int64)
    pairs = graph.node("Reshape", [logits, shape], "both/pairs")
    return graph.node("ReduceMean", [pairs], HEAD, axes=[0], keepdims=0)


def _operator(graph: Graph, layer: Any, inputs: list[str], name: str) -> str:
    """Add a layer's operators; returns the name of what they give."""
    match type(layer).__name__:
        case "Reshape":  # images (n, h, w) to (n, 1, h, w); of Unsqueeze OpenCV wants a known n
            height, width, _ = layer.target_shape
            sides = graph.weight(f"{name}/shape", [-1, 1, height, width], np.int64)
            return graph.node("Reshape", [*inputs, sides], name)
        case "Rescaling":
            if name == "standard":
                inputs = [graph.node("Cast", inputs, f"{name}/float", to=TensorProto.FLOAT)]
            if np.ndim(layer.scale) or np.ndim(layer.offset):
                raise UsageError(f"onnx: layer {name} scales each channel, which is not exported")
            inputs.append(graph.weight(f"{name}/scale", layer.scale))
            if not layer.offset:
                return graph.node("Mul", inputs, name)
            scaled = graph.node("Mul", inputs, f"{name}/scaled")
            return graph.node("Add", [scaled, graph.weight(f"{name}/offset", layer.offset)], name)
        case "Softmax":
            return graph.node("Softmax", inputs, name, axis=-1)
        case kind:
            raise UsageError(f"onnx: layer {name} is a {kind}, which is not exported")


def save(
    model: Any, path: Path, storage: str, samples: NDArray[np.uint8], *, flip: bool = False
) -> None:
    """Write a `portable` model as an ONNX file.

    Args:
        storage: float32; float16, kernels stored so and computed in float32, which processors are
            faster in; int8, kernels and what lies between layers in 8 bits, a scale for each
            output channel, computed so: the largest and smallest values of `samples` set the rest.
        samples: training images uint8 (n, height, width), for int8.
        flip: answer by the mean over the image and its mirror image.
    """
    made = convert(model, flip=flip)
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
