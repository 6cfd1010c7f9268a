"""Convolutions in a row: the options that `plain` and `compact` share."""

from dataclasses import dataclass

from fmnist.recipes.values import require, setting, settle


@dataclass(frozen=True)
class Convolutions:
    """3×3 convolutions in a row, some followed by 2×2 max-pooling."""

    filters: tuple[int, ...] = setting(
        (256, 512, 512, 512), "output channels of each 3×3 convolution, in order", "channels"
    )
    pool_after: tuple[int, ...] = setting(
        (2,), "convolutions, counted from 1, that a 2×2 max-pooling follows; or none"
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

    def _parameters(self, beside: int, channels: int = 1) -> int:
        """Parameters of the convolutions over `channels`, `beside` a channel beside the kernels."""
        inputs = (channels, *self.filters)
        return sum((9 * a + beside) * b for a, b in zip(inputs, self.filters, strict=False))

    def _operations(self, height: int, width: int, channels: int = 1) -> int:
        """Floating-point operations of the convolutions for an image: a product and a sum are 2."""
        inputs, total = channels, 0
        for i, filters in enumerate(self.filters):
            total += 2 * 9 * inputs * filters * height * width
            inputs = filters
            if i + 1 in self.pool_after:
                height, width = height // 2, width // 2
        return total
