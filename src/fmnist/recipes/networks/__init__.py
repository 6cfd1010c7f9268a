"""The networks, one file each: options, and counts of parameters and operations.

`engine.networks` builds them, each by the file of the same name there.
"""

from dataclasses import Field
from typing import Any, ClassVar, Protocol

from fmnist.recipes.networks.compact import Compact
from fmnist.recipes.networks.ensemble import Ensemble
from fmnist.recipes.networks.own import Own
from fmnist.recipes.networks.plain import Plain
from fmnist.recipes.networks.wide import Wide


class Network(Protocol):
    """A network's options: a frozen dataclass that checks them, and counts by them."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def batch_statistics(self) -> bool:
        """Whether the network normalises over the images of a micro-batch."""

    @property
    def halvings(self) -> int:
        """How many times the network halves the images' sides."""

    def parameters(self, shape: tuple[int, int, int], classes: int) -> int:
        """The network's parameters for images of shape (height, width, 1), statistics included."""

    def operations(self, shape: tuple[int, int, int], classes: int) -> int:
        """Floating-point operations of an image's convolutions and matrix products, forward."""


NETWORKS: dict[str, type[Network]] = {
    "plain": Plain,
    "compact": Compact,
    "wide": Wide,
    "ensemble": Ensemble,
    "own": Own,
}
