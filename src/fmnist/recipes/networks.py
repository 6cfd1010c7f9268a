"""The options of each network, and what it takes: parameters and operations."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fmnist.recipes.values import one_of, require, setting, settle


@dataclass(frozen=True)
class _Convolutions:
    """3×3 convolutions in a row, some followed by 2×2 max-pooling."""

    filters: tuple[int, ...] = setting(
        (256, 512, 512, 512), "output channels of each 3×3 convolution, in order", "channels"
    )
    pool_after: tuple[int, ...] = setting(
        (2,), "which convolutions a 2×2 max-pooling follows, counted from 1; none for none"
    )

    def __post_init__(self) -> None:
        settle(self, "model.")
        require(
            0 < len(self.filters) <= 64 and all(1 <= f <= 8192 for f in self.filters),
            "model.filters",
            "1 to 64 numbers from 1 to 8192",
            self.filters,
        )
        require(
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

    def _parameters(self, each: int, channels: int = 1) -> int:
        """Parameters of the convolutions over `channels`, `each` a channel beside the kernels."""
        inputs = (channels, *self.filters)
        return sum((9 * a + each) * b for a, b in zip(inputs, self.filters, strict=False))

    def _operations(self, height: int, width: int, channels: int = 1) -> int:
        """Floating-point operations of the convolutions for an image: a product and a sum are 2."""
        inputs, total = channels, 0
        for i, filters in enumerate(self.filters):
            total += 2 * 9 * inputs * filters * height * width
            inputs = filters
            if i + 1 in self.pool_after:
                height, width = height // 2, width // 2
        return total


@dataclass(frozen=True)
class Plain(_Convolutions):
    """The reference network and its kin: convolutions, a hidden dense layer, dropout."""

    dense_units: int = setting(512, "width of the hidden dense layer; 0 leaves it out", "units")
    dropout: float = setting(0.5, "share of the hidden units dropped in training", "0 to 1")

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


@dataclass(frozen=True)
class Compact(_Convolutions):
    """A small network with batch normalisation and one global maximum instead of dense layers."""

    filters: tuple[int, ...] = setting(
        (16, 32, 64, 64, 128), "output channels of each 3×3 convolution, in order", "channels"
    )
    pool_after: tuple[int, ...] = setting(
        (2, 4), "which convolutions a 2×2 max-pooling follows, counted from 1; none for none"
    )
    shortcuts: tuple[int, ...] = setting(
        (), "which convolutions' inputs are added to their normalised outputs, counted from 1"
    )
    stem: Literal["none", "haar"] = setting(
        "none", "before the convolutions; haar: a fixed one of the eight signed 2×2 Haar filters"
    )

    HAAR_FILTERS: ClassVar[int] = 8

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
        stem = 4 * self.HAAR_FILTERS if self.stem == "haar" else 0
        return stem + self._parameters(4, self._channels) + (self.filters[-1] + 1) * classes

    def operations(self, shape: tuple[int, int, int], classes: int) -> int:
        """Floating-point operations of an image's convolutions and matrix products, forward."""
        height, width = shape[:2]
        stem = 2 * 4 * self.HAAR_FILTERS * height * width if self.stem == "haar" else 0
        learnt = self._operations(height, width, self._channels)
        return stem + learnt + 2 * self.filters[-1] * classes

    @property
    def _channels(self) -> int:
        """Of what the first learnt convolution gets."""
        return self.HAAR_FILTERS if self.stem == "haar" else 1


@dataclass(frozen=True)
class Wide:
    """A wide residual network, WRN-depth-width of Zagoruyko & Komodakis 2016, without dropout.

    Three groups of blocks, each of two 3×3 convolutions with norm and ReLU before them; the second
    and the third group begin by halving the image. Then the mean over all places.
    """

    depth: int = setting(28, "3×3 convolutions in a row, and one layer more a group: 6 n + 4")
    width: int = setting(6, "factor of the groups' 16, 32 and 64 channels")

    def __post_init__(self) -> None:
        settle(self, "model.")
        require(
            10 <= self.depth <= 100 and self.depth % 6 == 4,
            "model.depth",
            "6 n + 4 from 10 to 100",
            self.depth,
        )
        require(1 <= self.width <= 64, "model.width", "1 to 64", self.width)

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
