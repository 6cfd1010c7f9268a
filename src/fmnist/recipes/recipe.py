"""Recipes: all settings that change the result of training, and no others.

A `Recipe` names a model with its options and says how it is trained. It is frozen, checked when it
is made, read and written as JSON, and changed only by making another (`recipe.changed(...)`, or
`--set` on the command line; both use the same names). No Keras and no NumPy here: a recipe that
is not valid is refused before anything heavy is loaded.
"""

import dataclasses
import json
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fmnist.errors import UsageError
from fmnist.recipes.networks import NETWORKS, Network, own
from fmnist.recipes.networks.ensemble import Ensemble
from fmnist.recipes.networks.own import Own
from fmnist.recipes.networks.plain import Plain
from fmnist.recipes.values import one_of, require, setting, settle

SCHEMA = 1
LARGEST_MODEL = 10**9  # parameters: 4 GB of weights, 16 GB with gradients and AdamW's moments
LARGEST_SIDE = 4096  # pixels
ENSEMBLE_FIELDS = ("name", "model", "options", "views", "fit_on", "precision")
NEEDED = {Ensemble: ("members", "weights"), Own: own.NEEDED}  # options without a default
# In older runs and records: recipes' names, and fields with the one value that has stayed.
FORMER_NAMES = {"seed": "reference"}
FORMER_FIELDS = {"schedule": "linear"}
NO_FIELDS = ("schema", "name", "model", "about")  # "about" is what `fmnist recipes` says of it


@dataclass(frozen=True)
class Recipe:
    """One way to train one model. Immutable; `changed` makes another."""

    name: str = setting(
        "custom", "name of the recipe, or of the shipped recipe that it was changed from"
    )
    model: str = setting("plain", "kind of network")
    options: Network = setting(Plain(), "the network's options, set as model.NAME")
    epochs: int = setting(5, "passes over the training images", "epochs")
    batch_size: int = setting(256, "images per optimiser update (the logical batch)", "images")
    micro_batch: int = setting(
        0,
        "images that share batch statistics, for a model with batch norm; 0: the whole batch "
        "(for other models fmnist chooses it by memory, and the result is the same)",
        "images",
    )
    optimizer: Literal["adamw", "muon"] = setting(
        "adamw", "adamw; or muon for kernels and adamw for all other weights"
    )
    learning_rate: float = setting(
        0.001, "peak value: it rises linearly from 0 in the warm-up, then falls linearly to 0"
    )
    momentum: float = setting(0.9, "Nesterov momentum of muon", "0 to 1")
    adam_ratio: float = setting(
        0.05, "with muon: learning rate of its adamw part, divided by learning_rate"
    )
    warmup: float = setting(
        0.2, "share of the updates during which the learning rate rises from 0", "0 to 1"
    )
    weight_decay: float = setting(
        0.0, "decoupled: each update shrinks kernels by learning rate × this; norms and biases stay"
    )
    clip_norm: float = setting(
        0.0, "largest global norm of the gradients, which are scaled down to it; 0: no limit"
    )
    label_smoothing: float = setting(
        0.0, "share of the target that is spread evenly over all classes", "0 to 1"
    )
    distillation: float = setting(
        0.9, "with --teacher: share of the loss that compares with the teacher's outputs", "0 to 1"
    )
    temperature: float = setting(
        2.0, "with --teacher: divisor of both logits before teacher and student are compared"
    )
    crop: int = setting(
        0, "random crop: largest shift of an image; edge pixels are repeated", "pixels"
    )
    flip: bool = setting(True, "mirror each image left to right with probability one half")
    cutout: int = setting(0, "side of the square that is blanked in each image; 0: none", "pixels")
    views: Literal["one", "flip", "shift"] = setting(
        "flip",
        "test-time augmentation; one: the image alone; flip: mean of image and mirror image; "
        "shift: half flip, and half the mean of both shifted by one pixel to each side",
    )
    fit_on: Literal["train", "all"] = setting(
        "train",
        "train: val is kept apart; all: train and val together, so that no val score is possible",
    )
    precision: Literal["auto", "bfloat16", "float32"] = setting(
        "auto",
        "number type of matrix products; auto: bfloat16 where this device computes it faster",
    )
    seed: int = setting(0, "seed of every random choice")

    def __post_init__(self) -> None:
        require(  # run folders are named after it, so that it must not lead elsewhere
            isinstance(self.name, str) and bool(re.fullmatch(r"\w[\w.+-]{0,98}", self.name)),
            "name",
            "up to 99 letters, digits and . _ + -",
            self.name,
        )
        settle(self)
        one_of("model", self.model, NETWORKS)
        if type(self.options) is not NETWORKS[self.model]:
            raise UsageError(
                f"options: expected those of model {self.model}, received {self.options!r}"
            )
        for field in dataclasses.fields(self):
            hint = _HINTS[field.name]
            if typing.get_origin(hint) is Literal:
                one_of(field.name, getattr(self, field.name), typing.get_args(hint))
        limits: dict[str, tuple[float, float]] = {
            "epochs": (1, 100_000),
            "batch_size": (1, 65_536),
            "micro_batch": (0, self.batch_size),
            "learning_rate": (0, 1e3),
            "momentum": (0, 0.9999),
            "adam_ratio": (0, 1e3),
            "warmup": (0, 1),
            "weight_decay": (0, 10),
            "clip_norm": (0, 1e6),
            "label_smoothing": (0, 0.99),
            "distillation": (0, 1),
            "temperature": (0.1, 100),
            "crop": (0, 64),
            "cutout": (0, 1024),
            "seed": (0, 2**31 - 1),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            require(low <= value <= high, name, f"{low:g} to {high:g}", value)
        if self.micro_batch and not self.batch_statistics:
            raise UsageError(
                f"micro_batch: expected 0, since the result of model {self.model} does not depend "
                f"on it (no batch statistics), received {self.micro_batch}; "
                "use --micro-batch or --memory for this run"
            )

    @property
    def batch_statistics(self) -> bool:
        """Whether the model normalises over the images of a micro-batch."""
        return self.options.batch_statistics

    def check_micro_batch(self, asked: int | None) -> None:
        """Raise UsageError for a micro-batch that would change the result, or is out of range."""
        if asked and self.batch_statistics:
            raise UsageError(
                f"--micro-batch: model {self.model} has batch statistics, so it changes the "
                f"result; use --set micro_batch={asked}"
            )
        if asked is not None and not 1 <= asked <= self.batch_size:
            raise UsageError(
                f"--micro-batch: expected 1 to the batch size {self.batch_size}, received {asked}"
            )

    def changed(self, **changes: Any) -> "Recipe":
        """Another recipe with some fields changed; a model's options are written `model.NAME`.

        Values may be of the field's type or text as on the command line. Raises UsageError for an
        unknown name (the message suggests the nearest one) and for a value that is not allowed.
        """
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if "model" in changes and changes["model"] != self.model:
            one_of("model", changes["model"], NETWORKS)
            network = NETWORKS[changes["model"]]
            needed = NEEDED.get(network, ())
            values["options"] = network(**{n: changes.get(f"model.{n}", ()) for n in needed})
        option_values = {
            f.name: getattr(values["options"], f.name)
            for f in dataclasses.fields(values["options"])
        }
        known = [n for n in values if n not in ("name", "options")]
        known += [f"model.{n}" for n in option_values]
        for name, value in changes.items():
            one_of("recipe field", name, known)
            if name.startswith("model."):
                option_values[name.removeprefix("model.")] = value
            else:
                values[name] = value
        values["options"] = type(values["options"])(**option_values)
        return Recipe(**values)

    def check_shape(self, shape: tuple[int, int, int], classes: int) -> None:
        """Raise UsageError unless the recipe can train on images of shape (height, width, 1)."""
        side = min(shape[:2])
        require(
            side >= 1 and max(shape) <= LARGEST_SIDE and shape[2] == 1,
            "data",
            f"grey images of 1 to {LARGEST_SIDE} pixels a side",
            "×".join(map(str, shape)),
        )
        halvings = self.options.halvings
        require(classes >= 2, "data", "at least 2 classes", classes)
        require(
            side >> halvings >= 1,
            f"recipe {self.name}",
            f"images of at least {1 << halvings} pixels a side, since the model halves them "
            f"{halvings} times",
            f"{shape[0]}×{shape[1]}",
        )
        count = self.options.parameters(shape, classes)
        if count > LARGEST_MODEL:
            raise UsageError(
                f"recipe {self.name}: expected at most {LARGEST_MODEL:,} parameters, received "
                f"{count:,}; use fewer filters or units"
            )
        require(self.crop < side, "crop", f"less than the image's side of {side}", self.crop)
        require(self.cutout <= side, "cutout", f"at most {side}", self.cutout)

    def describe(self) -> list[tuple[str, Any, str, str]]:
        """(name, value, unit, meaning) of every field, a model's options as `model.NAME`.

        An ensemble has only a few fields: how its members were trained is in their recipes.
        """
        rows = []
        for field in dataclasses.fields(self):
            if isinstance(self.options, Ensemble) and field.name not in ENSEMBLE_FIELDS:
                continue
            if field.name == "options":
                rows += [
                    _row(f"model.{f.name}", f, self.options)
                    for f in dataclasses.fields(self.options)
                ]
            else:
                rows.append(_row(field.name, field, self))
        return rows

    def to_json(self) -> dict[str, Any]:
        """As a JSON object with a schema number; `from_json` reads it back."""
        values = dataclasses.asdict(self)
        values["model"] = {"name": self.model} | values.pop("options")
        if isinstance(self.options, Ensemble):
            values["model"]["members"] = [member.to_json() for member in self.options.members]
        if isinstance(self.options, Own):
            values["model"]["architecture"] = json.loads(self.options.architecture)
        return {"schema": SCHEMA} | values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe that `to_json` wrote, today or before, or that was written by hand.

        By hand it may leave out the schema, and fields that have their defaults. Raises UsageError
        for anything else.
        """
        schema = type(values).__name__
        if isinstance(values, Mapping):
            schema = values.get("schema", SCHEMA)
        if schema != SCHEMA:
            raise UsageError(
                f"recipe: expected a JSON object of schema {SCHEMA}, received {schema}"
            )
        model = values.get("model")
        if not isinstance(model, Mapping) or "name" not in model:
            raise UsageError(
                f"recipe: expected model to be an object with a name, received {model!r}"
            )
        changes = {k: v for k, v in values.items() if k not in NO_FIELDS}
        for name, value in FORMER_FIELDS.items():
            received = changes.pop(name, value)
            require(received == value, name, f"{value}, the only value that is left", received)
        if model["name"] == "ensemble" and changes.get("optimizer") == "sgd":
            del changes["optimizer"]  # the default then, by which no ensemble was trained
        changes |= {"model": model["name"]}
        changes |= {f"model.{k}": v for k, v in model.items() if k != "name"}
        return cls(name=current_name(values.get("name", "custom"))).changed(**changes)


def current_name(name: Any) -> Any:
    """The name that a recipe has today; any other value as it is."""
    return FORMER_NAMES.get(name, name) if isinstance(name, str) else name


_HINTS = typing.get_type_hints(Recipe)


def _row(name: str, field: "dataclasses.Field[Any]", owner: object) -> tuple[str, Any, str, str]:
    return name, getattr(owner, field.name), field.metadata["unit"], field.metadata["meaning"]
