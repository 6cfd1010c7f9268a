"""A model as `fmnist export` would write it, small enough to make in a test."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = ["shirt", "shoe", "bag"]
TEMPERATURE = 2.0


def weights(shape):
    """(height · width, classes), by which pixels / 255 are multiplied for logits."""
    return np.random.default_rng(0).normal(size=(shape[0] * shape[1], 3)).astype(np.float32)


def write_model(path, shape=(28, 28), threshold=0.5):
    """One linear layer over three classes; gives `path`."""
    height, width = shape
    constants = {
        "flat": np.array([-1, height * width], np.int64),
        "scale": np.float32(255),
        "temperature": np.float32(TEMPERATURE),
        "weights": weights(shape),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["logits"]),
        helper.make_node("Div", ["logits", "temperature"], ["cooled"]),
        helper.make_node("Softmax", ["cooled"], ["probabilities"], axis=1),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])
        for name in ("logits", "probabilities")
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", height, width])],
        outputs,
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    about = {
        "schema": 1, "name": "tiny", "classes": CLASSES, "shape": [height, width, 1],
        "temperature": TEMPERATURE, "outlier": {"score": "energy", "threshold": threshold},
    }  # fmt: skip
    helper.set_model_props(model, {"fmnist": json.dumps(about)})
    onnx.save(model, path)
    return path
