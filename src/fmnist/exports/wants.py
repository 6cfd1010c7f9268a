"""What an exported file takes and gives, in words for people and in values for programs."""

from collections.abc import Mapping
from typing import Any

from fmnist.inference.classifier import WHOLE


def signature(form: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """The card's `input` and `outputs` of a file of this format, with the shape as it is there."""
    if form == "safetensors":  # weights alone
        return {"input": None, "outputs": None}
    height, width, _ = about["shape"]
    keras = form == "keras"
    return {
        "input": {
            "name": "images",
            "shape": ["n", height, width, *([1] if keras else [])],
            "dtype": "float32" if keras else "uint8",  # of whole numbers: Keras turns uint8 to it
            "values": "whole numbers of 0 to 255, "
            + ("grey" if about.get("photos") == WHOLE else "light on dark: the background is 0"),
        },
        "outputs": {
            name: {"shape": ["n", len(about["classes"])], "dtype": "float32"}
            for name in ("logits", "probabilities")
        },
    }


def description(name: str, form: str, about: Mapping[str, Any]) -> str:
    """The same in a few sentences, for the file's own doc string."""
    given = signature(form, about)["input"]
    shape = ", ".join(map(str, given["shape"]))
    return (
        f"{name}, made by fmnist export. Input: {given['name']}, {given['dtype']} ({shape}), "
        f"{given['values']}; do not divide by 255. Outputs: logits and probabilities, float32 "
        f"(n, {len(about['classes'])}), the classes in the order of the metadata `names`."
    )


def names(about: Mapping[str, Any]) -> dict[int, str]:
    """The classes by their number, as Ultralytics' exports have them in their metadata."""
    return dict(enumerate(about["classes"]))
