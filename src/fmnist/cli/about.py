"""`fmnist data`, `doctor`, `recipes` and `summary`: commands that describe."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fmnist.cli.loading import Folder, Size, SkipUnreadable, load
from fmnist.cli.options import Json, Picture, RecipeName, Settings, print_json, read_recipe
from fmnist.cli.tables import paragraph, table
from fmnist.errors import FmnistError, UsageError
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.text import plain


def show_data(about: dict[str, Any]) -> None:
    """Where the data is, its hashes, images for each class, pixel statistics and duplicates."""
    print(f"{about['name']} in {about['folder'] or 'memory'}")
    for name, value in about["hashes"].items():
        print(f"  sha256 {value}  {name}")
    splits = about["splits"]
    names = list(next(iter(splits.values()))["per_class"])
    table(
        ["class", *splits],
        [[n, *(f"{split['per_class'][n]:,}" for split in splits.values())] for n in names]
        + [["all", *(f"{split['images']:,}" for split in splits.values())]],
    )
    print(
        f"train pixels, scaled to 0–1: mean {about['mean']:.4f}, "
        f"standard deviation {about['deviation']:.4f}"
    )
    print("exact duplicates: " + ", ".join(f"{k} {v:,}" for k, v in about["duplicates"].items()))
    print(f"validation index sha256 {about['val_index_hash']}")
    if "saved" in about:
        print(f"saved as IDX files: {about['saved']}")
    if "picture" in about:
        print(f"picture: {about['picture']}")


def show_recipe(recipe: Recipe) -> None:
    """Every field with its value, as `--set` takes it, its meaning and unit."""
    table(
        ["field=value", "meaning"],
        [
            [f"{field}={plain(value)}", meaning + (f" [{unit}]" if unit else "")]
            for field, value, unit, meaning in recipe.describe()
        ],
        left=2,
        folds=True,
    )


def show_recipes(recipes: dict[str, dict[str, Any]]) -> None:
    """A line for each recorded result of the recipes."""
    rows = []
    for name, about in recipes.items():
        for result in about["results"]:
            spread = f"±{100 * result['deviation']:.2f}" if result["deviation"] else ""
            rows.append(
                [
                    name,
                    f"{about['parameters']:,}",
                    f"{100 * result['accuracy']:.2f}{spread}",
                    str(result["seeds"]),
                    f"{result['seconds']:,.0f}",
                    result["device"],
                ]
            )
    columns = ["recipe", "parameters", "test %", "seeds", "training s", "on"]
    table(columns, rows, optional=["seeds"])
    print()
    paragraph(
        "test %: the mean over seeds ± their standard deviation, n=10,000. `fmnist recipes NAME` "
        "says how each was trained and what every field means; `fmnist train NAME` trains it."
    )


def _describe(recipe: Recipe) -> dict[str, Any]:
    """A recipe's parameters, its recorded results if it is as shipped, and its fields."""
    from fmnist.recipes.results import RESULTS
    from fmnist.recipes.shipped import RECIPES

    shipped = recipe.name in RECIPES and recipe == RECIPES[recipe.name]()
    return {
        "parameters": recipe.options.parameters((28, 28, 1), 10),
        "results": [each._asdict() for each in RESULTS[recipe.name]] if shipped else [],
        "fields": [
            {"name": name, "value": value, "unit": unit, "meaning": meaning}
            for name, value, unit, meaning in recipe.describe()
        ],
    }


def data(
    folder: Folder = None,
    size: Size = None,
    skip_unreadable: SkipUnreadable = False,
    show: Picture = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", metavar="DIR", help="Write the data as IDX files into this new folder."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify and describe the data.

    Fashion-MNIST is downloaded first if it is not on this machine.
    """
    from fmnist.data.describe import check_picture, describe, draw_samples

    if show:
        check_picture(show)
    if save and os.path.lexists(save):
        raise UsageError(f"{save}: exists already; name a new folder with --save")
    loaded = load(folder, size, skip_unreadable)
    about = describe(loaded)
    if save:
        from fmnist.data.save import save_idx

        save_idx(loaded, save)
        about["saved"] = str(save)
    if show:
        draw_samples(loaded, show)
        about["picture"] = str(show)
    if as_json:
        print_json(about)
    else:
        show_data(about)


def doctor(
    seconds: Annotated[
        float,
        typer.Option(
            "--time-limit",
            metavar="S",
            min=0.1,
            help="Seconds that TensorFlow and JAX may each take to answer.",
        ),
    ] = 120,
    as_json: Json = False,
) -> None:
    """Find faults of this machine or installation.

    It also says how to mend each.
    """
    from fmnist.doctor.doctor import diagnose, lines, to_json

    findings = diagnose(seconds)
    if as_json:
        print_json(to_json(findings))
    else:
        print(*lines(findings), sep="\n")
    if wrong := [finding.about for finding in findings if finding.level == "wrong"]:
        raise FmnistError(f"broken: {', '.join(dict.fromkeys(wrong))}")


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="Name of a recipe, or a recipe.json file."),
    ] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """List the recipes, or the fields of one.

    Without RECIPE it prints a table of the recipes with their recorded results. With RECIPE it
    prints how these were made, and every field with its value, meaning and unit.
    """
    import inspect

    from fmnist.recipes import shipped

    if name is None:
        if settings:
            raise UsageError("--set: expected the name of a recipe as well, received none")
        cards = {
            key: build().to_json() | {"card": inspect.getdoc(build)} | _describe(build())
            for key, build in shipped.RECIPES.items()
        }
        if as_json:
            print_json(cards)
        else:
            show_recipes(cards)
        return
    recipe = read_recipe(name, settings)
    if as_json:
        print_json(recipe.to_json() | {"about": _describe(recipe)})
        return

    if name in shipped.RECIPES:
        for part in (inspect.getdoc(shipped.RECIPES[name]) or "").split("\n\n"):
            paragraph(" ".join(part.split()))
            print()
    show_recipe(recipe)


def summary(recipe: RecipeName, settings: Settings = None, as_json: Json = False) -> None:
    """Show the layers of a recipe's network.

    Keras prints each layer with its output shape and its number of parameters.
    """
    chosen = read_recipe(recipe, settings)
    chosen.check_shape((28, 28, 1), 10)

    from fmnist.engine import networks

    model = networks.build(chosen)
    if not as_json:
        model.summary(print_fn=print, line_length=80)
        return
    layers = [
        {
            "name": layer.name,
            "kind": type(layer).__name__,
            "parameters": layer.count_params(),
            "shape": list(layer.output.shape[1:]),
        }
        for layer in model.layers
    ]
    print_json({"recipe": chosen.name, "parameters": model.count_params(), "layers": layers})
