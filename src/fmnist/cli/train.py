"""`fmnist train` and `fmnist ensemble`: the commands that make a run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmnist.cli.loading import Folder, Size, SkipUnreadable, load, load_of, load_recorded
from fmnist.cli.options import (
    Changes,
    Coordinator,
    Distributed,
    Epochs,
    FitOn,
    Json,
    Logs,
    Memory,
    MicroBatch,
    NewRun,
    NumProcesses,
    OldRun,
    ProcessId,
    Quiet,
    RecipeOrQuick,
    Seconds,
    Seed,
    Settings,
    Teacher,
    Test,
    Updates,
    check_logs,
    in_one,
    open_finished,
    parse_size,
    print_json,
    read_recipe,
    refuse_beside_resume,
    say,
)
from fmnist.cli.tables import paragraph, short_score, table
from fmnist.errors import UsageError

if TYPE_CHECKING:
    from fmnist.runs.run import Run
    from fmnist.scoring.figures import Score

Network = Annotated[
    Path | None,
    typer.Option(
        "--network",
        metavar="FILE",
        help="Train the Keras model that build(shape, classes) of this Python file returns, from "
        "standardised images to logits, instead of the recipe's network.",
    ),
]

Photos = Annotated[
    Path | None,
    typer.Option(
        "--photos",
        metavar="DIR",
        help="Learn photos too: a folder a kind, named by a class, by a kind of the Clothing "
        "Dataset, such as shoes, or by none. DIR/source.txt says whose they are.",
    ),
]


def memory_limit(memory: str | None, micro_batch: int | None, distributed: bool) -> int | None:
    """The bytes that `--memory` allows. Raises UsageError beside what it cannot go with."""
    if memory is None:
        return None
    if distributed:
        raise UsageError("--memory: limits one process; with --distributed use --micro-batch")
    limit = parse_size(memory)
    if micro_batch:
        raise UsageError("--memory: chooses the micro-batch; leave out --micro-batch")
    return limit


def join_processes(
    distributed: bool, coordinator: str | None, count: int | None, number: int | None
) -> bool:
    """Meet the other processes of a distributed run; True for the process that writes."""
    if distributed:
        os.environ.setdefault("KERAS_BACKEND", "jax")
        from fmnist.engine.distributed import initialise

        return initialise(coordinator, count, number)
    if (coordinator, count, number) != (None, None, None):
        raise UsageError("--coordinator, --num-processes, --process-id: only go with --distributed")
    return True


def require_own_network(file: Path, settings: Sequence[str]) -> None:
    """Raise UsageError for a `--network` that is no file, or beside changes of the model."""
    if not file.is_file():
        raise UsageError(f"{file}: expected a Python file with build(shape, classes), found none")
    if others := [s for s in settings if s.partition("=")[0].strip().startswith("model")]:
        raise UsageError(f"--network: is the model itself; leave out --set {others[0]}")


def find_interrupted(name: Path, first: bool, distributed: bool) -> tuple[Path, dict[str, Any]]:
    """An interrupted run's folder, and its data's record; only the first process looks for them."""
    from fmnist.runs.run import find_run

    recorded: dict[str, Any] = {}
    if first:
        run = find_run(name)
        run.require_unfinished()
        name, recorded = run.path, run.env["data"]
    if distributed:
        from fmnist.engine.distributed import share

        recorded = share(recorded)
    return name, recorded


def show_training(run: "Run", score: "Score | None") -> None:
    """A new run's accuracy and folder, and the commands to go on with."""
    from fmnist.recipes.shipped import recipe
    from fmnist.recipes.text import VIEWS
    from fmnist.runs.commands import command
    from fmnist.scoring.figures import headline

    if "val" in run.scores:
        views = VIEWS[run.scores["val"]["views"]]
        print(f"val accuracy: {headline(run.scores['val'])}, {views}")
    print(f"run folder: {run.path}")
    if score is None:
        print(f"score on test: {command('evaluate', run.path, '--split', 'test')}")
        return
    print(f"by class: {command('runs', 'show', run.path)}")
    if run.recipe == recipe("quick"):
        print(f"a stronger model: {command('train', 'standard', '--test')}")
    print(f"ACCURACY: {score.headline()}")


def train(
    recipe: RecipeOrQuick = None,
    changes: Changes = None,
    settings: Settings = None,
    epochs: Epochs = None,
    seed: Seed = None,
    data: Folder = None,
    size: Size = None,
    skip_unreadable: SkipUnreadable = False,
    run: NewRun = None,
    resume: OldRun = None,
    fit_on: FitOn = None,
    network: Network = None,
    photos: Photos = None,
    teacher: Teacher = None,
    test: Test = False,
    memory: Memory = None,
    micro_batch: MicroBatch = None,
    checkpoint_seconds: Seconds = None,
    checkpoint_updates: Updates = None,
    log: Logs = None,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a recipe into a new run folder.

    With --resume it continues an interrupted run instead.
    """
    recipe, settings = in_one(recipe, changes, settings)
    settings += [f"{k}={v}" for k, v in (("epochs", epochs), ("seed", seed)) if v is not None]
    others = (network, teacher, memory, micro_batch, size, skip_unreadable, log)
    refuse_beside_resume(resume, "run", recipe, settings, fit_on, run, *others)
    logs = check_logs(log)
    limit = memory_limit(memory, micro_batch, distributed)
    first = join_processes(distributed, coordinator, num_processes, process_id)
    if resume:
        resume, recorded = find_interrupted(resume, first, distributed)
        loaded = load_recorded(recorded, data)
    else:
        chosen = read_recipe(recipe, settings, **{"fit_on": fit_on} if fit_on else {})
        if network:
            require_own_network(network, settings)
        else:
            chosen.check_micro_batch(micro_batch)
        if run and first:
            from fmnist.runs.run import Run

            Run.refuse_existing(run)
        teachers = open_finished(teacher or [])
        loaded = load(data, size, skip_unreadable)
        if not network:
            chosen.check_shape(loaded.shape, len(loaded.classes))

    from fmnist.scoring.evaluate import evaluate as score_run
    from fmnist.training import train as training
    from fmnist.training.own_network import from_file
    from fmnist.training.progress import Progress
    from fmnist.training.trackers import send_scores

    progress = Progress("none" if quiet or not first else "auto")
    if resume:
        trained = training.resume(
            resume,
            loaded,
            photos=photos,
            checkpoint_seconds=checkpoint_seconds,
            checkpoint_updates=checkpoint_updates,
            progress=progress,
        )
    else:
        trained = training.train(
            chosen,
            loaded,
            run,
            network=from_file(network) if network and first else None,
            photos=photos,
            teachers=teachers,
            micro_batch=micro_batch,
            memory_limit=limit,
            checkpoint_seconds=checkpoint_seconds,
            checkpoint_updates=checkpoint_updates,
            log=logs,
            progress=progress,
        )
    if not first:
        return
    score = score_run(trained, loaded.test) if test else None
    if score:
        send_scores(trained, say)
    if as_json:
        print_json(
            {"run": str(trained.path), "scores": trained.scores, "metrics": trained.metrics()[-1]}
        )
    else:
        show_training(trained, score)


def show_ensemble(members: Sequence["Run"], combined: "Run") -> None:
    """Each member's weight and scores, then the ensemble's."""
    from fmnist.scoring.figures import headline

    weights = combined.recipe_json["model"]["weights"]
    table(
        ["member", "weight", "parameters", "val %", "test %"],
        [
            [
                run.name,
                f"{part:.3f}",
                f"{run.env['parameters']:,}",
                short_score(run.scores.get("val")),
                short_score(run.scores.get("test")),
            ]
            for run, part in zip(members, weights, strict=True)
        ],
        optional=["parameters"],
    )
    if useless := [run.name for run, part in zip(members, weights, strict=True) if not part]:
        paragraph(f"members of weight 0 only cost time, leave them out: {', '.join(useless)}")
    for split in ("val", "test"):
        if split in combined.scores:
            paragraph(f"{split} accuracy: {headline(combined.scores[split])}")
    if len(set(weights)) > 1:
        paragraph("(the weights were fitted on val, so this val accuracy is a little too high)")
    print(f"run folder: {combined.path}")


def ensemble(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Folders or names of two or more finished runs."),
    ],
    run: NewRun = None,
    equal: Annotated[
        bool,
        typer.Option("--equal", help="Weigh all runs equally, instead of fitting weights on val."),
    ] = False,
    test: Test = False,
    data: Folder = None,
    as_json: Json = False,
) -> None:
    """Average several runs into one new run.

    The new run predicts with the weighted mean of the runs' outputs. Other commands take it like
    any run.
    """
    from fmnist.runs.run import Run

    if run:
        Run.refuse_existing(run)
    members = open_finished(runs)
    loaded = load_of(members[0], data)
    members[0].require_data(loaded.hash, loaded.name)  # before there is what cannot be scored

    from fmnist.scoring.evaluate import evaluate as score_run
    from fmnist.training.ensemble import ensemble as combine

    combined = combine(members, run, equal=equal)
    if combined.recipe.fit_on == "train":
        score_run(combined, loaded.val)
    if test:
        score_run(combined, loaded.test)
    if as_json:
        weights = combined.recipe_json["model"]["weights"]
        print_json({"run": str(combined.path), "weights": weights, "scores": combined.scores})
    else:
        show_ensemble(members, combined)
