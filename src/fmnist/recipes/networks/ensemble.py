"""The network `ensemble`: its options, parameters and operations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fmnist.errors import UsageError
from fmnist.recipes.values import parse, require, setting

if TYPE_CHECKING:
    from fmnist.recipes.recipe import Recipe

LARGEST_WEIGHT = 100.0  # of a member


@dataclass(frozen=True)
class Ensemble:
    """Trained networks whose logits are averaged. `fmnist ensemble` makes one of runs."""

    batch_statistics: ClassVar[bool] = False

    members: tuple["Recipe", ...] = setting((), "recipes of the member networks")
    weights: tuple[float, ...] = setting((), "weight of each member's logits in the sum")

    def __post_init__(self) -> None:
        from fmnist.recipes.recipe import Recipe  # whose field `options` may be an ensemble

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
                f"{len(members) if single else 'something else'}; make one with fmnist ensemble"
            )
        object.__setattr__(self, "members", members)
        weights = parse("model.weights", self.weights, tuple[float, ...])
        require(
            len(weights) == len(members)
            and all(0 <= w <= LARGEST_WEIGHT for w in weights)
            and sum(weights) > 0,
            "model.weights",
            f"{len(members)} numbers from 0 to {LARGEST_WEIGHT:g}, not all 0",
            weights,
        )
        object.__setattr__(self, "weights", weights)

    @property
    def halvings(self) -> int:
        """The most halvings of any member."""
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
