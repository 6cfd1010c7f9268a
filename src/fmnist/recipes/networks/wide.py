"""The network `wide`: its options, parameters and operations."""

from dataclasses import dataclass
from typing import ClassVar

from fmnist.recipes.values import require, setting, settle


@dataclass(frozen=True)
class Wide:
    """A wide residual network, WRN-depth-width of Zagoruyko & Komodakis 2016, without dropout.

    Three groups of blocks, each of two 3×3 convolutions with norm and ReLU before them; the second
    and the third group begin by halving the image. Then the mean over all places.
    """

    batch_statistics: ClassVar[bool] = True

    depth: int = setting(
        28, "depth as WRN counts it: 6 n + 4, with n blocks in each of three groups"
    )
    width: int = setting(6, "factor by which the groups' 16, 32 and 64 channels are multiplied")

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
        blocks, before = [], 16
        for group, channels in enumerate((16, 32, 64)):
            for place in range((self.depth - 4) // 6):
                blocks.append((before, channels * self.width, 2 if group and not place else 1))
                before = channels * self.width
        return blocks

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
