"""The command line: arguments, what is printed and exit codes, nothing else.

Heavy imports stand inside the commands, so that `fmnist --help` answers at once.
"""

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fmnist import __version__
from fmnist.errors import FmnistError, RunError, UsageError

if TYPE_CHECKING:
    from fmnist.data import Data
    from fmnist.evaluation import Score
    from fmnist.runs import Run

EXIT_CODES = """
Exit codes: 0 done; 1 failed; 2 a wrong option, recipe or argument; 3 data could not be had or was
refused; 4 the loss became no number; 5 a run folder is missing, damaged or in use; 130 or 143
stopped by Ctrl-C or a termination signal, with a checkpoint to go on from.
"""

app = typer.Typer(
    help="Train, score and iterate over image classifiers for Fashion-MNIST and its kin.",
    epilog=EXIT_CODES, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    pretty_exceptions_enable=False,
)  # fmt: skip
runs_app = typer.Typer(rich_markup_mode=None)
app.add_typer(runs_app, name="runs")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE",
        help="Change a recipe field or model option; repeatable. fmnist recipes NAME lists them.",
    ),
]  # fmt: skip
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR",
        help="Folder of IDX files or of images by class [default: FMNIST_DATA, else Fashion-MNIST].",
    ),
]  # fmt: skip
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe or a recipe.json.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _say(text: str) -> None:
    """Something about the command's progress, kept out of its output."""
    print(text, file=sys.stderr, flush=True)


def _table(columns: list[str], rows: list[list[str]], left: int = 1) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # Where the output is no terminal, no line is cut or broken.
    width = None if sys.stdout.isatty() else 500
    Console(highlight=False, markup=False, width=width, soft_wrap=False).print(table)


def _load(folder: Path | None) -> "Data":
    from fmnist.data import load_data
    from fmnist.sources import progress_bar

    with progress_bar() as progress:
        return load_data(folder, progress=progress, report=_say)


def _recorded_folder(run: "Run", asked: Path | None) -> Path | None:
    """The data folder to use for a run: the one asked for, else the one that it was trained on."""
    recorded = run.env["data"]
    if asked is not None or recorded["name"] == "fashion-mnist":
        return asked
    return Path(recorded["folder"])


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe or a recipe.json.")] = "quick",
    settings: Settings = None,
    data: DataFolder = None,
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="The run folder to make [default: a name under runs/].")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")] = None,
    fit_on: Annotated[str | None, typer.Option(metavar="train|all", help="all: train on the validation images too.")] = None,
    test: Annotated[bool, typer.Option("--test", help="Score the test split at the end; the ledger notes it.")] = False,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Resident memory to stay within, such as 4GB.")] = None,
    micro_batch: Annotated[int | None, typer.Option(metavar="N", help="Images on the device at once [default: as memory permits].")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(metavar="S", help="How often to keep the whole state.")] = 300.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train a recipe into a new run folder, or go on with an interrupted run."""
    from fmnist.memory import parse_size
    from fmnist.recipes import parse_settings
    from fmnist.recipes import recipe as find_recipe
    from fmnist.runs import Run

    changes = parse_settings(settings or [])
    if fit_on:
        changes["fit_on"] = fit_on
    if resume and (changes or run or memory or micro_batch):
        raise UsageError("--resume: goes on with what the run recorded; leave out the other options")
    chosen = find_recipe(recipe, **changes)
    limit = parse_size(memory) if memory else None
    loaded = _load(_recorded_folder(Run(resume), data) if resume else data)
    if not resume:
        chosen.check_shape(loaded.shape, len(loaded.classes))

    from fmnist import training
    from fmnist.evaluation import evaluate as score_run
    from fmnist.progress import Progress

    progress = Progress("none" if quiet else "auto")
    if resume:
        result = training.resume(
            str(resume), loaded, checkpoint_seconds=checkpoint_seconds, progress=progress
        )
    else:
        result = training.train(
            chosen, loaded, run, micro_batch=micro_batch, memory_limit=limit,
            checkpoint_seconds=checkpoint_seconds, progress=progress,
        )  # fmt: skip
    score = score_run(result, loaded.test) if test else None
    if as_json:
        _print_json({"run": str(result.path), "scores": result.scores, "metrics": result.metrics()[-1]})
        return
    validation = result.scores.get("val")
    if validation:
        low, high = validation["interval"]
        print(
            f"val accuracy: {validation['accuracy']:.2%} (n={validation['n']:,}, "
            f"95% CI {100 * low:.2f}–{100 * high:.2f})"
        )
    print(f"run folder: {result.path}")
    if score:
        print(f"details: fmnist evaluate {result.path} --split test")
        print(f"ACCURACY: {score.headline()}")
    else:
        print(f"score it on test: fmnist evaluate {result.path} --split test")


@app.command()
def evaluate(
    run: RunFolder,
    split: Annotated[str, typer.Option(metavar="val|test", help="test is noted in the ledger.")] = "val",
    data: DataFolder = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Score a finished run: accuracy with interval, loss, calibration, per class, confusion."""
    from fmnist.runs import Run

    if split not in ("val", "test"):
        raise UsageError(f"--split: expected val or test, received {split!r}")
    opened = Run(run)
    opened.load_weights()
    loaded = _load(_recorded_folder(opened, data))
    recorded = opened.env["data"]
    if loaded.hash != recorded["hash"]:
        _say(f"note: this is not the data that the run was trained on ({recorded['name']})")

    from fmnist.evaluation import evaluate as score_run

    score = score_run(opened, loaded.test if split == "test" else loaded.val)
    if as_json:
        _print_json(score.to_json())
        return
    _show_score(score)


def _show_score(score: "Score") -> None:
    _table(
        ["class", "precision", "recall", "F1", "n"],
        [[r["class"], f"{r['precision']:.2%}", f"{r['recall']:.2%}", f"{r['f1']:.2%}", f"{r['n']:,}"]
         for r in score.per_class],
    )  # fmt: skip
    print("\nconfusion: rows are the true classes, columns the predicted ones, in the order above")
    names = [r["class"] for r in score.per_class]
    _table(
        ["", *(str(i) for i in range(len(names)))],
        [[f"{i} {name}", *(str(v) if v else "·" for v in row)]
         for i, (name, row) in enumerate(zip(names, score.confusion, strict=True))],
    )  # fmt: skip
    views = {"one": "one view", "flip": "mean over image and mirror image"}[score.views]
    print(
        f"\nloss {score.loss:.4f}, expected calibration error {score.expected_calibration_error:.2%}, "
        f"{score.images_per_second:,.0f} images/s ({views})"
    )
    print(f"{score.split.upper() if score.split == 'val' else ''} ACCURACY: {score.headline()}".strip())


@app.command()
def data(
    folder: DataFolder = None,
    show: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a picture of samples by class.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Find, fetch if need be, verify and describe the data."""
    from fmnist.data import describe, draw_samples

    loaded = _load(folder)
    about = describe(loaded)
    if show:
        draw_samples(loaded, show)
        about["picture"] = str(show)
    if as_json:
        _print_json(about)
        return
    _show_data(about)


def _show_data(about: dict[str, Any]) -> None:
    print(f"{about['name']} in {about['folder']}")
    for name, value in about["hashes"].items():
        print(f"  sha256 {value}  {name}")
    splits = about["splits"]
    classes = next(iter(splits.values()))["per_class"]
    _table(
        ["class", *splits],
        [[name, *(f"{split['per_class'][name]:,}" for split in splits.values())] for name in classes]
        + [["all", *(f"{split['images']:,}" for split in splits.values())]],
    )  # fmt: skip
    print(f"pixels / 255 of train: mean {about['mean']:.4f}, standard deviation {about['deviation']:.4f}")
    print("exact duplicates: " + ", ".join(f"{k} {v:,}" for k, v in about["duplicates"].items()))
    print(f"validation index sha256 {about['val_index_hash']}")
    if "picture" in about:
        print(f"picture: {about['picture']}")


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[RECIPE]")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """List the recipes with their recorded results, or every field of one."""
    import inspect

    from fmnist import recipes as module

    if name is None:
        if settings:
            raise UsageError("--set: expected the name of a recipe before it, received none")
        cards = {key: inspect.getdoc(make) or "" for key, make in module.RECIPES.items()}
        if as_json:
            _print_json({k: module.RECIPES[k]().to_json() | {"card": c} for k, c in cards.items()})
            return
        for key, card in cards.items():
            print(f"{key}\n" + "\n".join(f"    {line}".rstrip() for line in card.splitlines()))
        print("\nfmnist recipes NAME prints every field; fmnist train NAME trains it")
        return
    recipe = module.recipe(name, **module.parse_settings(settings or []))
    if as_json:
        _print_json(recipe.to_json())
        return
    if name in module.RECIPES:
        print(inspect.getdoc(module.RECIPES[name]), end="\n\n")
    _table(
        ["field", "value", "unit", "meaning"],
        [[field, _plain(value), unit, meaning] for field, value, unit, meaning in recipe.describe()],
        left=4,
    )  # fmt: skip


def _plain(value: Any) -> str:
    """A recipe's value as `--set` takes it."""
    if isinstance(value, tuple):
        return ",".join(str(v) for v in value) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


@app.command()
def summary(recipe: RecipeName, settings: Settings = None, as_json: Json = False) -> None:
    """Print a recipe's network as Keras' table: layers, shapes, parameters."""
    from fmnist.recipes import parse_settings
    from fmnist.recipes import recipe as find_recipe

    chosen = find_recipe(recipe, **parse_settings(settings or []))
    chosen.check_shape((28, 28, 1), 10)

    from fmnist import models

    model = models.build(chosen)
    if as_json:
        layers = [
            {"name": layer.name, "kind": type(layer).__name__, "parameters": layer.count_params(),
             "shape": list(layer.output.shape[1:])}
            for layer in model.layers
        ]  # fmt: skip
        _print_json({"recipe": chosen.name, "parameters": model.count_params(), "layers": layers})
        return
    model.summary(print_fn=print, line_length=80)


@runs_app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    folder: Annotated[Path, typer.Option("--in", metavar="DIR", help="The folder of the runs.")] = Path("runs"),
    as_json: Json = False,
) -> None:  # fmt: skip
    """Table the runs, or show one."""
    if context.invoked_subcommand is not None:
        return
    from fmnist.runs import all_runs

    rows = []
    for run in all_runs(folder):
        try:
            rows.append(_run_row(run))
        except RunError as error:  # one damaged run hides no other
            _say(f"note: left out: {error}")
    if as_json:
        _print_json(rows)
        return
    if not rows:
        print(f"no runs in {folder} yet; fmnist train makes one")
        return
    _table(
        ["run", "recipe", "parameters", "val", "test", "training", "device"],
        [[r["run"], r["recipe"], f"{r['parameters']:,}", _share(r["val"]), _share(r["test"]),
          f"{r['seconds']:,.0f} s" if r["finished"] else "unfinished", r["device"]] for r in rows],
        left=2,
    )  # fmt: skip


def _run_row(run: Any) -> dict[str, Any]:
    scores, metrics, env = run.scores, run.metrics(), run.env
    return {
        "run": run.name, "recipe": run.recipe.get("name"), "parameters": env["parameters"],
        "val": scores.get("val"), "test": scores.get("test"), "finished": run.finished,
        "seconds": metrics[-1]["seconds"] if metrics else 0.0, "device": env["device"],
        "times_opened": run.times_opened(),
    }  # fmt: skip


def _share(score: dict[str, Any] | None) -> str:
    if score is None:
        return "–"
    low, high = score["interval"]
    opened = f", opened {score['times_opened']}×" if score.get("times_opened") else ""
    return f"{score['accuracy']:.2%} ({100 * low:.2f}–{100 * high:.2f}{opened})"


@runs_app.command()
def show(run: RunFolder, as_json: Json = False) -> None:
    """Show all about a run: recipe, environment, learning curve, scores."""
    from fmnist.recipes import Recipe
    from fmnist.runs import Run

    opened = Run(run)
    if as_json:
        _print_json({
            "run": opened.name, "recipe": opened.recipe, "env": opened.env,
            "metrics": opened.metrics(), "scores": opened.scores,
            "times_opened": opened.times_opened(),
        })  # fmt: skip
        return
    row, env = _run_row(opened), opened.env
    state = f"trained in {row['seconds']:,.1f} s" if row["finished"] else "unfinished"
    print(f"{run}: {row['recipe']}, {row['parameters']:,} parameters, {state}")
    print(f"{env['precision']} on {env['device']}, {env['backend']} {env['versions'][env['backend']]}, "
          f"{env['data']['name']} ({env['data']['n']:,} images)")  # fmt: skip
    fields = Recipe.from_json(opened.recipe).describe()
    print("recipe: " + " ".join(f"{field}={_plain(value)}" for field, value, _, _ in fields))
    _table(
        ["epoch", "update", "loss", "accuracy", "val", "seconds"],
        [[str(m["epoch"]), f"{m['update']:,}", f"{m['loss']:.4f}", f"{m['accuracy']:.2%}",
          f"{m['val_accuracy']:.2%}" if "val_accuracy" in m else "–", f"{m['seconds']:,.1f}"]
         for m in opened.metrics() if "epoch" in m], left=0,
    )  # fmt: skip
    print(f"val {_share(row['val'])}; test {_share(row['test'])}")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fmnist {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, score and iterate over image classifiers for Fashion-MNIST and its kin."""


def main() -> NoReturn:
    """The `fmnist` command: runs it and exits, an error as one line on stderr."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without × gets a question mark
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except FmnistError as error:
        _say(f"error: {error}" if error.exit_code < 128 else str(error))
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        _say(f'error: this command needs more packages ({error.name} is missing): '
             'pip install "fmnist[train]"')  # fmt: skip
        sys.exit(2)
    except KeyboardInterrupt:
        _say("stopped")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    main()
