"""The form of requests and answers, for OpenAPI."""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from fmnist.inference.classifier import Classifier, energy
from fmnist.inference.verdict import verdicts
from fmnist.serving import limits
from fmnist.serving.bodies import MOST_IMAGES, MOST_PHOTOS, Bytes

Floats = npt.NDArray[np.float32]


class ClassProbability(BaseModel):
    """A class and its calibrated probability."""

    class_: str
    probability: float

    model_config = {"alias_generator": lambda name: name.rstrip("_")}


class Prediction(BaseModel):
    """The answer for one image: in words, and all classes, the likeliest first."""

    answer: str
    sure: bool
    classes: list[ClassProbability]
    unlike: bool
    energy: float
    logits: list[float]
    seen: list[list[int]] | None = None


class Answer(BaseModel):
    """The answers for the images of a request, in their order."""

    model: str
    predictions: list[Prediction]


class Problem(BaseModel):
    """Why there is no answer, in one line."""

    detail: str


PROBLEMS = {
    400: "Not valid HTTP, JSON or multipart, or a host name that the server does not accept",
    408: f"The body took longer than {limits.BODY_SECONDS:g} s",
    413: "Too many bytes or images",
    415: "The content type is not supported",
    422: "The images or an option are not as expected",
    503: "The server is overloaded: try again after Retry-After seconds",
}


def describe(
    classifier: Classifier, images: Bytes, outputs: tuple[Floats, Floats], seen: bool, cut: bool
) -> dict[str, Any]:
    """The answer for images, (n, height, width), as the JSON of Answer; `cut` as for `verdicts`."""
    logits, probabilities = outputs
    order = np.argsort(-probabilities, axis=1, kind="stable").tolist()
    columns = (
        order,
        probabilities.tolist(),
        logits.tolist(),
        energy(logits).tolist(),
        verdicts(classifier, images, logits, probabilities, [cut] * len(images)),
        images,
    )
    return {
        "model": classifier.name,
        "predictions": [
            {
                "answer": said.words,
                "sure": said.sure,
                "classes": [{"class": classifier.classes[i], "probability": row[i]} for i in best],
                "unlike": said.unlike,
                "energy": score,
                "logits": raw,
                **({"seen": image.tolist()} if seen else {}),
            }
            for best, row, raw, score, said, image in zip(*columns, strict=True)
        ],
    }


def request_body(shape: tuple[int, int]) -> dict[str, Any]:
    """The bodies that a request may have, for images of (height, width), as OpenAPI."""
    height, width = shape
    row = {
        "type": "array",
        "minItems": width,
        "maxItems": width,
        "items": {"type": "integer", "minimum": 0, "maximum": 255},
    }
    image = {"type": "array", "minItems": height, "maxItems": height, "items": row}
    example = [[255 if width // 4 <= x < width * 3 // 4 else 0 for x in range(width)]] * height
    photo = {"type": "string", "format": "binary"}
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "additionalProperties": False,
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MOST_IMAGES,
                            "items": image,
                        }
                    },
                },
                "example": {"images": [example]},
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MOST_PHOTOS,
                            "items": photo,
                        }
                    },
                }
            },
            "image/*": {"schema": photo},
        },
    }
