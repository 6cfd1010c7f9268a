"""The network `compact`: its options, parameters and operations."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fmnist.recipes.networks.convolutions import Convolutions
from fmnist.recipes.values import one_of, require, setting

HAAR_FILTERS = 8  # of 2×2 pixels each


@dataclass(frozen=True)
class Compact(Convolutions):
    """A small network with batch normalisation and one global maximum instead of dense layers."""

    batch_statistics: ClassVar[bool] = True

    filters: tuple[int, ...] = setting(
        (16, 32, 64, 64, 128), "output channels of each 3×3 convolution, in order", "channels"
    )
    pool_after: tuple[int, ...] = setting(
        (2, 4), "convolutions, counted from 1, that a 2×2 max-pooling follows; or none"
    )
    shortcuts: tuple[int, ...] = setting(
        (), "convolutions, counted from 1, whose input is added to their normalised output"
    )
    stem: Literal["none", "haar"] = setting(
        "none", "first layer; haar: a fixed convolution with the eight signed 2×2 Haar filters"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("model.stem", self.stem, ("none", "haar"))
        for p in self.shortcuts:
            require(
                2 <= p <= len(self.filters)
                and self.filters[p - 2] == self.filters[p - 1]
                and p not in self.pool_after
                and self.shortcuts.count(p) == 1,
                "model.shortcuts",
                "none, or positions of convolutions that keep the number of "
                "channels and that no max-pooling follows",
                p,
            )

    def parameters(self, shape: tuple[int, int, int], classes: int) -> int:
        """The network's parameters for images of shape (height, width, 1), statistics included."""
        stem = 4 * HAAR_FILTERS if self.stem == "haar" else 0
        return stem + self._parameters(4, self._channels) + (self.filters[-1] + 1) * classes

    def operations(self, shape: tuple[int, int, int], classes: int) -> int:
        """Floating-point operations of an image's convolutions and matrix products, forward."""
        height, width = shape[:2]
        stem = 2 * 4 * HAAR_FILTERS * height * width if self.stem == "haar" else 0
        learnt = self._operations(height, width, self._channels)
        return stem + learnt + 2 * self.filters[-1] * classes

    @property
    def _channels(self) -> int:
        """Of the first learnt convolution's input."""
        return HAAR_FILTERS if self.stem == "haar" else 1
