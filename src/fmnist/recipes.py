"""Recipes: everything that changes what a training run learns, and nothing that does not.

A `Recipe` names a model with its options and says how it is trained. It is frozen, checked when it
is made, read and written as JSON, and changed only by making another (`recipe.changed(...)`, or
`--set` on the command line; both use the same names). No Keras and no NumPy here: a recipe that
cannot be is refused before anything heavy is loaded.
"""

import dataclasses
import difflib
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fmnist import files
from fmnist.errors import RunError, UsageError

SCHEMA = 1
LARGEST_MODEL = 10**9  # parameters: 4 GB of weights, 16 GB with gradients and AdamW's moments
LARGEST_SIDE = 4096  # pixels
LARGEST_WEIGHT = 100.0  # of an ensemble's member
ENSEMBLE_FIELDS = ("name", "model", "options", "views", "fit_on", "precision")


def _field(default: Any, meaning: str, unit: str = "") -> Any:
    """A dataclass field that carries its meaning and unit for `fmnist recipes NAME`."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "unit": unit})


def _settle(made: Any, prefix: str = "") -> None:
    """Give each field of a frozen dataclass that was just made its type. Raises UsageError."""
    for name, hint in typing.get_type_hints(type(made)).items():
        if hint in (int, float, bool) or typing.get_origin(hint) is tuple:
            value = _parse(prefix + name, getattr(made, name), hint)
            object.__setattr__(made, name, value)


def _require(holds: bool, name: str, expected: str, received: object) -> None:
    if not holds:
        raise UsageError(f"{name}: expected {expected}, received {received!r}")


def one_of(what: str, name: Any, known: Iterable[Any]) -> None:
    """Raise UsageError unless `name` is known, with the nearest that is or all."""
    known = list(known)
    if name in known:
        return
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    if near:
        raise UsageError(f"unknown {what} {name!r}; did you mean {near[0]}?")
    raise UsageError(f"unknown {what} {name!r}; known: {', '.join(str(k) for k in known)}")


def _parse(name: str, value: Any, hint: Any) -> Any:
    """`value`, of the type `hint` or as text or JSON, as that type."""
    origin = typing.get_origin(hint)
    try:
        if origin is tuple:
            if value in ("none", "", None):
                return ()
            parts = value.split(",") if isinstance(value, str) else value
            parts = [parts] if isinstance(parts, int) else parts
            return tuple(_parse(name, part, typing.get_args(hint)[0]) for part in parts)
        if hint is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                str(value).lower()
            ]
        if hint is int:
            if isinstance(value, float) and not value.is_integer():
                raise ValueError
            return int(value)
        number = float(value)
        if number != number:
            raise ValueError
        return number
    except (ValueError, KeyError, TypeError, OverflowError):
        kinds = {bool: "yes or no", int: "a whole number", float: "a number"}
        expected = kinds.get(hint, "whole numbers separated by commas")
        raise UsageError(f"{name}: expected {expected}, received {value!r}") from None


@dataclass(frozen=True)
class _Convolutions:
    """3×3 convolutions in a row, some followed by 2×2 max-pooling."""

    filters: tuple[int, ...] = _field(
        (256, 512, 512, 512), "output channels of each 3×3 convolution, in order", "channels"
    )
    pool_after: tuple[int, ...] = _field(
        (2,), "which convolutions a 2×2 max-pooling follows, counted from 1; none for none"
    )

    def __post_init__(self) -> None:
        _settle(self, "model.")
        _require(
            0 < len(self.filters) <= 64 and all(1 <= f <= 8192 for f in self.filters),
            "model.filters", "1 to 64 numbers from 1 to 8192", self.filters,
        )  # fmt: skip
        _require(
            all(1 <= p <= len(self.filters) for p in self.pool_after)
            and sorted(set(self.pool_after)) == list(self.pool_after),
            "model.pool_after",
            f"none, or rising positions from 1 to {len(self.filters)}, the number of convolutions",
            self.pool_after,
        )

    @property
    def halvings(self) -> int:
        """How often the images' sides are halved."""
        return len(self.pool_after)

    def _parameters(self, each: int) -> int:
        """Parameters of the convolutions, with `each` a channel beside the kernels."""
        inputs = (1, *self.filters)
        return sum((9 * a + each) * b for a, b in zip(inputs, self.filters, strict=False))

    def _operations(self, height: int, width: int) -> int:
        """Floating-point operations of the convolutions for an image: a product and a sum are 2."""
        inputs, total = 1, 0
        for i, filters in enumerate(self.filters):
            total += 2 * 9 * inputs * filters * height * width
            inputs = filters
            if i + 1 in self.pool_after:
                height, width = height // 2, width // 2
        return total


@dataclass(frozen=True)
class Plain(_Convolutions):
    """The reference network and its kin: convolutions, a hidden dense layer, dropout."""

    dense_units: int = _field(512, "width of the hidden dense layer; 0 leaves it out", "units")
    dropout: float = _field(0.5, "share of the hidden units dropped in training", "0 to 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            0 <= self.dense_units <= 65536, "model.dense_units", "0 to 65536", self.dense_units
        )
        _require(0 <= self.dropout < 1, "model.dropout", "a share in [0, 1)", self.dropout)

    def _values(self, height: int, width: int) -> int:
        """What the dense layers get of an image."""
        return (height >> self.halvings) * (width >> self.halvings) * self.filters[-1]

    def parameters(self, shape: tuple[int, int, int], classes: int) -> int:
        """The network's parameters for images of shape (height, width, 1)."""
        values = self._values(*shape[:2])
        hidden = (values + 1) * self.dense_units
        return self._parameters(1) + hidden + ((self.dense_units or values) + 1) * classes

    def operations(self, shape: tuple[int, int, int], classes: int) -> int:
        """Floating-point operations of an image's convolutions and matrix products, forward."""
        values = self._values(*shape[:2])
        hidden = 2 * values * self.dense_units
        head = 2 * (self.dense_units or values) * classes
        return self._operations(*shape[:2]) + hidden + head


@dataclass(frozen=True)
class Compact(_Convolutions):
    """A small network with batch normalisation and one global maximum instead of dense layers."""

    filters: tuple[int, ...] = _field(
        (16, 32, 64, 64, 128), "output channels of each 3×3 convolution, in order", "channels"
    )
    pool_after: tuple[int, ...] = _field(
        (2, 4), "which convolutions a 2×2 max-pooling follows, counted from 1; none for none"
    )
    shortcuts: tuple[int, ...] = _field(
        (), "which convolutions' inputs are added to their normalised outputs, counted from 1"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for p in self.shortcuts:
            _require(
                2 <= p <= len(self.filters) and self.filters[p - 2] == self.filters[p - 1]
                and p not in self.pool_after and self.shortcuts.count(p) == 1,
                "model.shortcuts", "none, or positions of convolutions that keep the number of "
                "channels and that no max-pooling follows", p,
            )  # fmt: skip

    def parameters(self, shape: tuple[int, int, int], classes: int) -> int:
        """The network's parameters for images of shape (height, width, 1), statistics included."""
        return self._parameters(4) + (self.filters[-1] + 1) * classes

    def operations(self, shape: tuple[int, int, int], classes: int) -> int:
        """Floating-point operations of an image's convolutions and matrix products, forward."""
        return self._operations(*shape[:2]) + 2 * self.filters[-1] * classes


@dataclass(frozen=True)
class Wide:
    """A wide residual network, WRN-depth-width of Zagoruyko & Komodakis 2016, without dropout.

    Three groups of blocks, each of two 3×3 convolutions with norm and ReLU before them; the second
    and the third group begin by halving the image. Then the mean over all places.
    """

    depth: int = _field(28, "3×3 convolutions in a row, and one layer more a group: 6 n + 4")
    width: int = _field(6, "factor of the groups' 16, 32 and 64 channels")

    def __post_init__(self) -> None:
        _settle(self, "model.")
        _require(
            10 <= self.depth <= 100 and self.depth % 6 == 4,
            "model.depth", "6 n + 4 from 10 to 100", self.depth,
        )  # fmt: skip
        _require(1 <= self.width <= 64, "model.width", "1 to 64", self.width)

    @property
    def halvings(self) -> int:
        """How often the images' sides are halved."""
        return 2

    @property
    def blocks(self) -> list[tuple[int, int, int]]:
        """Channels before and after, and stride, of each block in order."""
        made, before = [], 16
        for group, channels in enumerate((16, 32, 64)):
            for place in range((self.depth - 4) // 6):
                made.append((before, channels * self.width, 2 if group and not place else 1))
                before = channels * self.width
        return made

    def parameters(self, shape: tuple[int, int, int], classes: int) -> int:
        """The network's parameters for images of shape (height, width, 1), statistics included."""
        total = 9 * 16
        for before, after, _ in self.blocks:
            total += 4 * (before + after) + 9 * (before + after) * after
            total += before * after if before != after else 0
        last = 64 * self.width
        return total + 4 * last + (last + 1) * classes

    def operations(self, shape: tuple[int, int, int], classes: int) -> int:
        """Floating-point operations of an image's convolutions and matrix products, forward."""
        height, width = shape[:2]
        total = 2 * 9 * 16 * height * width
        for before, after, stride in self.blocks:
            height, width = -(-height // stride), -(-width // stride)
            kernels = 9 * (before + after) * after + (before * after if before != after else 0)
            total += 2 * kernels * height * width
        return total + 2 * 64 * self.width * classes


@dataclass(frozen=True)
class Ensemble:
    """Trained networks whose logits are averaged. `fmnist ensemble` makes one of runs."""

    members: tuple["Recipe", ...] = _field((), "the recipes of the networks")
    weights: tuple[float, ...] = _field((), "factors of the networks' logits in their sum")

    def __post_init__(self) -> None:
        members: Any = self.members
        # From JSON; a nested one is refused below before it is gone through.
        if isinstance(members, list) and not any(map(_describes_ensemble, members)):
            members = tuple(Recipe.from_json(member) for member in members)
        single = isinstance(members, tuple) and all(
            isinstance(m, Recipe) and m.model != "ensemble" for m in members
        )
        if not single or not 2 <= len(members) <= 32:
            raise UsageError(
                "model ensemble: expected 2 to 32 recipes of single networks, received "
                f"{len(members) if single else 'something else'}; fmnist ensemble makes one of runs"
            )
        object.__setattr__(self, "members", members)
        weights = _parse("model.weights", self.weights, tuple[float, ...])
        _require(
            len(weights) == len(members) and all(0 <= w <= LARGEST_WEIGHT for w in weights)
            and sum(weights) > 0,
            "model.weights", f"{len(members)} numbers from 0 to {LARGEST_WEIGHT:g}, not all 0",
            weights,
        )  # fmt: skip
        object.__setattr__(self, "weights", weights)

    @property
    def halvings(self) -> int:
        """Of the network that halves the images most often."""
        return max(m.options.halvings for m in self.members)

    def parameters(self, shape: tuple[int, int, int], classes: int) -> int:
        """All networks' parameters for images of shape (height, width, 1)."""
        return sum(m.options.parameters(shape, classes) for m in self.members)

    def operations(self, shape: tuple[int, int, int], classes: int) -> int:
        """Floating-point operations of all networks for an image, forward."""
        return sum(m.options.operations(shape, classes) for m in self.members)


def _describes_ensemble(recipe: Any) -> bool:
    """Whether JSON is a recipe of an ensemble."""
    model = recipe.get("model") if isinstance(recipe, Mapping) else None
    return isinstance(model, Mapping) and model.get("name") == "ensemble"


ModelOptions = Plain | Compact | Wide | Ensemble
MODEL_OPTIONS: dict[str, Callable[..., ModelOptions]] = {
    "plain": Plain, "compact": Compact, "wide": Wide, "ensemble": Ensemble,
}  # fmt: skip
WITH_BATCH_STATISTICS = frozenset({"compact", "wide"})


@dataclass(frozen=True)
class Recipe:
    """One way to train one model. Immutable; `changed` makes another."""

    name: str = _field("custom", "the shipped recipe that this is or started from")
    model: str = _field("plain", "the network's family")
    options: ModelOptions = _field(Plain(), "the network's options, set as model.NAME")
    epochs: int = _field(5, "passes over the training images", "epochs")
    batch_size: int = _field(256, "images of one optimiser update (the logical batch)", "images")
    micro_batch: int = _field(
        0,
        "images that share batch statistics, for a model that has them; 0: the whole batch "
        "(any other model is divided as memory permits, with the same result)",
        "images",
    )
    optimizer: Literal["sgd", "adamw", "muon"] = _field(
        "sgd", "sgd (Nesterov), adamw, or muon for kernels with adamw for the rest"
    )
    learning_rate: float = _field(0.1, "the schedule's highest value")
    momentum: float = _field(0.9, "of sgd and muon, Nesterov's", "0 to 1")
    adam_ratio: float = _field(0.05, "of muon: its adamw half's learning rate / learning_rate")
    schedule: Literal["linear", "cosine"] = _field(
        "linear", "how the learning rate falls to 0 after the warm-up; linear is one-cycle"
    )
    warmup: float = _field(0.2, "share of all updates in which the rate rises from 0", "0 to 1")
    weight_decay: float = _field(
        0.0, "decoupled: each update shrinks kernels by learning rate × this; not norms, biases"
    )
    clip_norm: float = _field(0.0, "gradients are scaled to at most this global norm; 0: never")
    label_smoothing: float = _field(0.0, "share of the target spread over all classes", "0 to 1")
    distillation: float = _field(
        0.9, "with --teacher: the share of the loss that asks for the teacher's outputs", "0 to 1"
    )
    temperature: float = _field(
        2.0, "with --teacher: what logits are divided by before teacher and student are compared"
    )
    crop: int = _field(0, "random crop: shift up to this far, edges replicated", "pixels")
    flip: bool = _field(True, "mirror half of the images, drawn for each")
    cutout: int = _field(0, "side of the square that is blanked in every image; 0: none", "pixels")
    views: Literal["one", "flip", "shift"] = _field(
        "flip",
        "test-time augmentation: one view; flip: the mean over image and mirror image; "
        "shift: these two count half, and both moved a pixel to each of four sides the other half",
    )
    fit_on: Literal["train", "all"] = _field(
        "train", "train: val kept apart; all: train and val together, no val figures then"
    )
    precision: Literal["auto", "bfloat16", "float32"] = _field(
        "auto", "of the products; auto: bfloat16 where the device multiplies it faster than float32"
    )
    seed: int = _field(0, "start of every random choice")

    def __post_init__(self) -> None:
        _require(  # run folders are named after it, so that it must not lead elsewhere
            isinstance(self.name, str) and bool(re.fullmatch(r"\w[\w.+-]{0,98}", self.name)),
            "name", "up to 99 letters, digits and . _ + -", self.name,
        )  # fmt: skip
        _settle(self)
        one_of("model", self.model, MODEL_OPTIONS)
        if type(self.options) is not MODEL_OPTIONS[self.model]:
            raise UsageError(f"options of {self.model}: received {self.options!r}")
        for field in dataclasses.fields(self):
            hint = _HINTS[field.name]
            if typing.get_origin(hint) is Literal:
                one_of(field.name, getattr(self, field.name), typing.get_args(hint))
        limits: dict[str, tuple[float, float]] = {
            "epochs": (1, 100_000), "batch_size": (1, 65_536), "micro_batch": (0, self.batch_size),
            "learning_rate": (0, 1e3), "momentum": (0, 0.9999),
            "adam_ratio": (0, 1e3), "warmup": (0, 1), "weight_decay": (0, 10),
            "clip_norm": (0, 1e6), "label_smoothing": (0, 0.99),
            "distillation": (0, 1), "temperature": (0.1, 100),
            "crop": (0, 64), "cutout": (0, 1024), "seed": (0, 2**31 - 1),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            _require(low <= value <= high, name, f"{low:g} to {high:g}", value)
        if self.micro_batch and not self.batch_statistics:
            raise UsageError(
                f"micro_batch: expected 0 for model {self.model}, which has no batch statistics "
                f"and gives the same result however it is divided, received {self.micro_batch}; "
                "use --micro-batch or --memory for this run"
            )

    @property
    def batch_statistics(self) -> bool:
        """Whether the model normalises over the images that are on the device together."""
        return self.model in WITH_BATCH_STATISTICS

    def check_micro_batch(self, asked: int | None) -> None:
        """Refuse a run's micro-batch that the recipe does not leave open."""
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
        unknown name (naming the nearest one) or a value that cannot be.
        """
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if "model" in changes and changes["model"] != self.model:
            one_of("model", changes["model"], MODEL_OPTIONS)
            made = MODEL_OPTIONS[changes["model"]]
            needed = ("members", "weights") if made is Ensemble else ()
            values["options"] = made(**{n: changes.get(f"model.{n}", ()) for n in needed})
        option_values = {f.name: getattr(values["options"], f.name)
                         for f in dataclasses.fields(values["options"])}  # fmt: skip
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
        """Refuse what this recipe cannot do with images of shape (height, width, 1)."""
        side = min(shape[:2])
        _require(
            side >= 1 and max(shape) <= LARGEST_SIDE and shape[2] == 1, "data",
            f"grey images of 1 to {LARGEST_SIDE} pixels a side", "×".join(map(str, shape)),
        )  # fmt: skip
        halvings = self.options.halvings
        _require(classes >= 2, "data", "at least 2 classes", classes)
        _require(
            side >> halvings >= 1, f"recipe {self.name}",
            f"images of at least {1 << halvings} pixels a side, since the model halves them "
            f"{halvings} times", f"{shape[0]}×{shape[1]}",
        )  # fmt: skip
        count = self.options.parameters(shape, classes)
        if count > LARGEST_MODEL:
            raise UsageError(
                f"recipe {self.name}: expected at most {LARGEST_MODEL:,} parameters, received "
                f"{count:,}; use fewer filters or units"
            )
        _require(self.crop < side, "crop", f"less than the image's side of {side}", self.crop)
        _require(self.cutout <= side, "cutout", f"at most {side}", self.cutout)

    def describe(self) -> list[tuple[str, Any, str, str]]:
        """(name, value, unit, meaning) of every field, a model's options as `model.NAME`.

        Of an ensemble only those that say something: what trains is in its members' recipes.
        """
        rows = []
        for field in dataclasses.fields(self):
            if isinstance(self.options, Ensemble) and field.name not in ENSEMBLE_FIELDS:
                continue
            if field.name == "options":
                rows += [_row(f"model.{f.name}", f, self.options) for f in
                         dataclasses.fields(self.options)]  # fmt: skip
            else:
                rows.append(_row(field.name, field, self))
        return rows

    def changes(self) -> dict[str, Any]:
        """The fields, a model's options as `model.NAME`, that differ from the shipped recipe's."""
        if self.name not in RECIPES:
            return {}
        shipped = {field: value for field, value, _, _ in RECIPES[self.name]().describe()}
        mine = {field: value for field, value, _, _ in self.describe()}
        return {k: v for k, v in mine.items() if k not in shipped or shipped[k] != v}

    def to_json(self) -> dict[str, Any]:
        """As a JSON object with a schema number; `from_json` reads it back."""
        values = dataclasses.asdict(self)
        values["model"] = {"name": self.model} | values.pop("options")
        if isinstance(self.options, Ensemble):
            values["model"]["members"] = [member.to_json() for member in self.options.members]
        return {"schema": SCHEMA} | values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe that `to_json` wrote. Raises UsageError for anything else."""
        if not isinstance(values, Mapping) or values.get("schema") != SCHEMA:
            schema = values.get("schema") if isinstance(values, Mapping) else type(values).__name__
            raise UsageError(
                f"recipe: expected a JSON object of schema {SCHEMA}, received {schema}"
            )
        model = values.get("model")
        if not isinstance(model, Mapping) or "name" not in model:
            raise UsageError(
                f"recipe: expected model to be an object with a name, received {model!r}"
            )
        changes = {k: v for k, v in values.items() if k not in ("schema", "name", "model")}
        changes |= {"model": model["name"]}
        changes |= {f"model.{k}": v for k, v in model.items() if k != "name"}
        return cls(name=values.get("name", "custom")).changed(**changes)


_HINTS = typing.get_type_hints(Recipe)


def _row(name: str, field: "dataclasses.Field[Any]", owner: object) -> tuple[str, Any, str, str]:
    return name, getattr(owner, field.name), field.metadata["unit"], field.metadata["meaning"]


def parse_settings(settings: Iterable[str]) -> dict[str, str]:
    """`["epochs=4", "model.filters=64,128"]` as a dict for `Recipe.changed`."""
    changes = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"--set: expected NAME=VALUE, received {setting!r}")
        changes[name.strip()] = value.strip()
    return changes


def seed() -> Recipe:
    """The published reference network to the letter: 57,288,202 parameters.

    Test 94.27 % (one run, for its cost), trained on all images, 2,912 s on two cores with AMX; its
    author reports 93.47 %. `fmnist train seed --fit-on all --test`, records/2026-11-24-seed.
    Test 94.37 % (mean of 3 seeds, standard deviation 0.13) on one H200 with KERAS_BACKEND=jax, 10 s
    in the median, records/2026-11-26-h200-seed.
    """
    return Recipe(
        name="seed", model="plain", options=Plain(), epochs=6, batch_size=128, optimizer="adamw",
        learning_rate=7e-4, warmup=0.15, weight_decay=0.05, clip_norm=1.0, label_smoothing=0.1,
    )  # fmt: skip


def quick() -> Recipe:
    """A compact network of 136,282 parameters, under two minutes on two CPU cores.

    Test 93.83 % (mean of 5 seeds, standard deviation 0.14), trained on all images, 106 s in the
    median. `fmnist train quick --fit-on all --test`, records/2026-11-23-quick. With epochs=6 it is
    0.2 points more.
    """
    return Recipe(
        name="quick", model="compact", options=Compact(), epochs=4, batch_size=128,
        optimizer="muon", learning_rate=0.08, momentum=0.6, adam_ratio=0.2, warmup=0.1,
        label_smoothing=0.1,
    )  # fmt: skip


def standard() -> Recipe:
    """A deeper compact network of 471,706 parameters with shortcuts, 20 minutes on two CPU cores.

    Test 95.03 % (mean of 3 seeds, standard deviation 0.07), trained on all images, 1,196 s in the
    median. `fmnist train standard --fit-on all --test`, records/2026-11-23-standard.
    """
    return Recipe(
        name="standard", model="compact",
        options=Compact(
            filters=(16, 48, 64, 64, 96, 96, 128, 128), pool_after=(2, 5, 7), shortcuts=(4, 6, 8)
        ),
        epochs=21, batch_size=128, optimizer="muon", learning_rate=0.08, momentum=0.6,
        adam_ratio=0.2, warmup=0.1, label_smoothing=0.1, crop=1, cutout=8, views="shift",
    )  # fmt: skip


def strong() -> Recipe:
    """A wider compact network of 1,832,618 parameters, an evening on two CPU cores.

    Test 95.61 % (one seed), trained on all images, 4,839 s on two cores with AMX, about three times
    that without. `fmnist train strong --fit-on all --test`, records/2026-11-24-strong.
    """
    return Recipe(
        name="strong", model="compact",
        options=Compact(
            filters=(32, 64, 128, 128, 192, 192, 256, 256), pool_after=(2, 5, 7),
            shortcuts=(4, 6, 8),
        ),
        epochs=72, batch_size=128, optimizer="muon", learning_rate=0.08, momentum=0.6,
        adam_ratio=0.2, warmup=0.1, label_smoothing=0.1, crop=2, cutout=12, views="shift",
    )  # fmt: skip


def tiny() -> Recipe:
    """The most accurate network here of at most 100,000 parameters: 94,570.

    Test 94.82 % (mean of 3 seeds, standard deviation 0.15), trained on all images, 791 s in the
    median. `fmnist train tiny --fit-on all --test`, records/2026-11-24-tiny.
    """
    return Recipe(
        name="tiny", model="compact",
        options=Compact(
            filters=(16, 32, 40, 40, 48, 48, 56), pool_after=(3, 5, 7), shortcuts=(4, 6)
        ),
        epochs=28, batch_size=128, optimizer="muon", learning_rate=0.08, momentum=0.6,
        adam_ratio=0.2, warmup=0.1, label_smoothing=0.1, crop=1, cutout=8, views="shift",
    )  # fmt: skip


def strong_gpu() -> Recipe:
    """A wide residual network of 10,968,282 parameters, two and a half minutes on one large GPU.

    Test 96.02 % (mean of 3 seeds, standard deviation 0.09), trained on all images, 144 s on one
    H200 in the median. `KERAS_BACKEND=jax fmnist train strong-gpu --fit-on all --test`,
    records/2026-11-26-h200-strong-gpu. WRN-16-8; a batch of 480 keeps such a GPU busy and divides
    60,000.
    """
    return Recipe(
        name="strong-gpu", model="wide", options=Wide(depth=16, width=8), epochs=120,
        batch_size=480, optimizer="muon", learning_rate=0.14, momentum=0.6, adam_ratio=0.2,
        warmup=0.1, label_smoothing=0.1, crop=2, cutout=12, views="shift",
    )  # fmt: skip


RECIPES: dict[str, Callable[[], Recipe]] = {
    f.__name__.replace("_", "-"): f for f in (quick, standard, strong, strong_gpu, tiny, seed)
}


def recipe(name: str, /, **changes: Any) -> Recipe:
    """A shipped recipe by name, with fields changed: `recipe("quick", epochs=4)`.

    A path to a `recipe.json` serves as a name too. Raises UsageError for what is unknown.
    """
    if name.endswith(".json"):
        try:
            return Recipe.from_json(files.read_json(Path(name))).changed(**changes)
        except RunError as error:
            raise UsageError(f"expected a recipe.json; {error}") from None
    one_of("recipe", name, RECIPES)
    return RECIPES[name]().changed(**changes)
