"""The shipped recipes, each with its recorded result."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fmnist import files
from fmnist.errors import RunError, UsageError
from fmnist.recipes.networks.compact import Compact
from fmnist.recipes.networks.plain import Plain
from fmnist.recipes.networks.wide import Wide
from fmnist.recipes.recipe import Recipe, current_name
from fmnist.recipes.values import one_of


def parse_settings(settings: Iterable[str]) -> dict[str, str]:
    """`["epochs=4", "model.filters=64,128"]` as a dict for `Recipe.changed`."""
    changes = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"--set: expected NAME=VALUE, received {setting!r}")
        changes[name.strip()] = value.strip()
    return changes


def reference() -> Recipe:
    """The published reference network to the letter: 57,288,202 parameters.

    Test 94.27 % (one run, for its cost), trained on all images, 2,912 s on two cores with AMX; its
    author reports 93.47 %. `fmnist train reference --fit-on all --test`, records/2026-11-24-seed.
    Test 94.37 % (mean of 3 seeds, standard deviation 0.13) on one H200 with KERAS_BACKEND=jax, 10 s
    in the median, records/2026-11-26-h200-seed.
    """
    return Recipe(
        name="reference",
        model="plain",
        options=Plain(),
        epochs=6,
        batch_size=128,
        optimizer="adamw",
        learning_rate=7e-4,
        warmup=0.15,
        weight_decay=0.05,
        clip_norm=1.0,
        label_smoothing=0.1,
    )


def quick() -> Recipe:
    """A compact network of 281,770 parameters, one to two and a half minutes on two CPU cores.

    Test 94.29 % (mean of 5 seeds, standard deviation 0.12), trained on the 55,000 images that
    `make train` uses, 68 s in the median with AMX, 0.029 PFLOP. `fmnist train quick --test`,
    records/2026-11-27-quick. In float32: 94.08 % (3 seeds), 151 s.
    """
    return Recipe(
        name="quick",
        model="compact",
        options=Compact(stem="haar", filters=(32, 64, 64, 128, 128), pool_after=(1, 3, 4)),
        epochs=5,
        batch_size=128,
        optimizer="muon",
        learning_rate=0.08,
        momentum=0.6,
        adam_ratio=0.2,
        warmup=0.1,
        label_smoothing=0.1,
    )


def standard() -> Recipe:
    """A deeper compact network of 471,706 parameters with shortcuts, 20 minutes on two CPU cores.

    Test 95.03 % (mean of 3 seeds, standard deviation 0.07), trained on all images, 1,196 s in the
    median. `fmnist train standard --fit-on all --test`, records/2026-11-23-standard.
    """
    return Recipe(
        name="standard",
        model="compact",
        options=Compact(
            filters=(16, 48, 64, 64, 96, 96, 128, 128), pool_after=(2, 5, 7), shortcuts=(4, 6, 8)
        ),
        epochs=21,
        batch_size=128,
        optimizer="muon",
        learning_rate=0.08,
        momentum=0.6,
        adam_ratio=0.2,
        warmup=0.1,
        label_smoothing=0.1,
        crop=1,
        cutout=8,
        views="shift",
    )


def strong() -> Recipe:
    """A wider compact network of 1,832,618 parameters, an evening on two CPU cores.

    Test 95.61 % (one seed), trained on all images, 4,839 s on two cores with AMX, about three times
    that without. `fmnist train strong --fit-on all --test`, records/2026-11-24-strong.
    """
    return Recipe(
        name="strong",
        model="compact",
        options=Compact(
            filters=(32, 64, 128, 128, 192, 192, 256, 256),
            pool_after=(2, 5, 7),
            shortcuts=(4, 6, 8),
        ),
        epochs=72,
        batch_size=128,
        optimizer="muon",
        learning_rate=0.08,
        momentum=0.6,
        adam_ratio=0.2,
        warmup=0.1,
        label_smoothing=0.1,
        crop=2,
        cutout=12,
        views="shift",
    )


def tiny() -> Recipe:
    """The most accurate network here of at most 100,000 parameters: 94,570.

    Test 94.82 % (mean of 3 seeds, standard deviation 0.15), trained on all images, 791 s in the
    median. `fmnist train tiny --fit-on all --test`, records/2026-11-24-tiny.
    """
    return Recipe(
        name="tiny",
        model="compact",
        options=Compact(
            filters=(16, 32, 40, 40, 48, 48, 56), pool_after=(3, 5, 7), shortcuts=(4, 6)
        ),
        epochs=28,
        batch_size=128,
        optimizer="muon",
        learning_rate=0.08,
        momentum=0.6,
        adam_ratio=0.2,
        warmup=0.1,
        label_smoothing=0.1,
        crop=1,
        cutout=8,
        views="shift",
    )


def strong_gpu() -> Recipe:
    """A wide residual network of 10,968,282 parameters, two and a half minutes on one large GPU.

    Test 96.02 % (mean of 3 seeds, standard deviation 0.09), trained on all images, 144 s on one
    H200 in the median. `KERAS_BACKEND=jax fmnist train strong-gpu --fit-on all --test`,
    records/2026-11-26-h200-strong-gpu. WRN-16-8; a batch of 480 keeps such a GPU busy and divides
    60,000.
    """
    return Recipe(
        name="strong-gpu",
        model="wide",
        options=Wide(depth=16, width=8),
        epochs=120,
        batch_size=480,
        optimizer="muon",
        learning_rate=0.14,
        momentum=0.6,
        adam_ratio=0.2,
        warmup=0.1,
        label_smoothing=0.1,
        crop=2,
        cutout=12,
        views="shift",
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    f.__name__.replace("_", "-"): f for f in (quick, standard, strong, strong_gpu, tiny, reference)
}


def recipe(name: str, /, **changes: Any) -> Recipe:
    """A shipped recipe by name, with fields changed: `recipe("quick", epochs=4)`.

    A path to a `recipe.json` serves as a name too, and so does a recipe's former name. Raises
    UsageError for an unknown name.
    """
    if name.endswith(".json"):
        try:
            return Recipe.from_json(files.read_json(Path(name))).changed(**changes)
        except RunError as error:
            raise UsageError(f"expected a recipe.json; {error}") from None
    name = current_name(name)
    one_of("recipe", name, RECIPES)
    return RECIPES[name]().changed(**changes)


def changes_of(recipe: Recipe) -> dict[str, Any]:
    """The fields, a model's options as `model.NAME`, that differ from the shipped recipe's."""
    if recipe.name not in RECIPES:
        return {}
    shipped = {field: value for field, value, _, _ in RECIPES[recipe.name]().describe()}
    own = {field: value for field, value, _, _ in recipe.describe()}
    return {k: v for k, v in own.items() if k not in shipped or shipped[k] != v}
