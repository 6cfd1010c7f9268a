"""The network `plain`: its options, parameters and operations."""

from dataclasses import dataclass
from typing import ClassVar

from fmnist.recipes.networks.convolutions import Convolutions
from fmnist.recipes.values import require, setting


@dataclass(frozen=True)
class Plain(Convolutions):
    """The reference network and its kin: convolutions, a hidden dense layer, dropout."""

    batch_statistics: ClassVar[bool] = False

    dense_units: int = setting(512, "width of the hidden dense layer; 0 leaves it out", "units")
    dropout: float = setting(0.5, "share of the hidden units that training drops", "0 to 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.dense_units <= 65536, "model.dense_units", "0 to 65536", self.dense_units)
        require(0 <= self.dropout < 1, "model.dropout", "a share in [0, 1)", self.dropout)

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
