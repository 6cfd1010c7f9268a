"""The network `own`: one that the user wrote, as Keras' JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fmnist.errors import UsageError
from fmnist.recipes.values import require, setting, settle

NEEDED = ("architecture", "parameter_count", "operation_count")
# Layers that are updated by each micro-batch, so that its size changes the result.
STATISTICS = ("BatchNormalization", "SpectralNormalization")


@dataclass(frozen=True)
class Own:
    """A network of Keras' own layers. `fmnist train --network FILE` makes one of a Python file."""

    halvings: ClassVar[int] = 0  # not known: building it says which images it takes

    architecture: str = setting("", "the network as Keras' JSON, in tables its hash")
    parameter_count: int = setting(0, "its parameters, statistics included")
    operation_count: int = setting(
        0, "floating-point operations of an image's convolutions and matrix products, forward"
    )

    def __post_init__(self) -> None:
        try:
            architecture: Any = self.architecture  # an object where it is from a recipe.json
            architecture = (
                json.loads(architecture) if isinstance(architecture, str) else architecture
            )
            written = text(architecture) if isinstance(architecture, Mapping) else ""
        except (ValueError, TypeError, RecursionError):
            written = ""
        if not written:
            raise UsageError(
                "model own: expected Keras' JSON; fmnist train --network FILE makes one"
            )
        object.__setattr__(self, "architecture", written)
        settle(self, "model.")
        for name in NEEDED[1:]:
            value = getattr(self, name)
            require(0 <= value < 2**63, f"model.{name}", "a count", value)

    @property
    def batch_statistics(self) -> bool:
        """Whether the network normalises over the images of a micro-batch."""
        return any(f'"class_name":"{name}"' in self.architecture for name in STATISTICS)

    def parameters(self, shape: tuple[int, int, int], classes: int) -> int:
        """The network's parameters, statistics included."""
        return self.parameter_count

    def operations(self, shape: tuple[int, int, int], classes: int) -> int:
        """Floating-point operations of an image's convolutions and matrix products, forward."""
        return self.operation_count


def text(architecture: Mapping[str, Any]) -> str:
    """An architecture as one line of JSON, the same for the same layers."""
    return json.dumps(architecture, sort_keys=True, separators=(",", ":"))
