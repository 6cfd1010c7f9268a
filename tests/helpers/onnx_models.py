"""Tiny ONNX files in the form that fmnist's own have."""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

CLASSES = ("top", "bottom", "left")
ABOUT = {
    "schema": 1,
    "name": "tiny",
    "classes": [*CLASSES],
    "shape": [28, 28, 1],
    "temperature": 2.0,
    "outlier": {"score": "centred energy", "threshold": 1.5},
}


def weights(height: int = 28, width: int = 28) -> np.ndarray:
    """(height * width, 3): how bright the upper half, the lower half and the left half are."""
    masks = np.zeros((3, height, width), np.float32)
    masks[0, : height // 2] = masks[1, height // 2 :] = masks[2, :, : width // 2] = 1
    return (masks.reshape(3, -1).T * 8 / (255 * height * width / 2)).astype(np.float32)


def write_model(
    path: Path,
    about: object = ABOUT,
    *,
    shape: tuple[int, int] = (28, 28),
    outputs: tuple[str, str] = ("logits", "probabilities"),
    kind: int = TensorProto.UINT8,
    times: float = 1.0,
    elsewhere: str = "",
) -> Path:
    """Write to `path` a model whose logits are a linear map of the pixels, and return it.

    With `elsewhere`, a file's name, its weights are to be read from there.
    """
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], [outputs[0]]),
        helper.make_node("Div", [outputs[0], "temperature"], ["cooled"]),
        helper.make_node("Softmax", ["cooled"], [outputs[1]], axis=1),
    ]
    constants = {"weights": weights(*shape) * np.float32(times), "temperature": np.float32(2.0)}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, ["n", *shape])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["n", 3]) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    if elsewhere:
        tensor = graph.initializer[0]
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", elsewhere), ("offset", "0"), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    if about is not None:
        text = about if isinstance(about, str) else json.dumps(about)
        helper.set_model_props(model, {"fmnist": text})
    path.write_bytes(model.SerializeToString())
    return path
