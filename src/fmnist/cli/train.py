"""`fmnist train` and `fmnist ensemble`: what makes a run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmnist.cli.options import (
    Coordinator,
    Distributed,
    FitOn,
    Folder,
    Json,
    Memory,
    MicroBatch,
    NewRun,
    NumProcesses,
    OldRun,
    ProcessId,
    Quiet,
    Seconds,
    Settings,
    Teacher,
    Test,
    Updates,
    folder_of,
    load,
    print_json,
    recorded_folder,
)
from fmnist.cli.tables import short_score, table
from fmnist.errors import UsageError

if TYPE_CHECKING:
    from fmnist.runs.run import Run


def show_ensemble(members: Sequence["Run"], made: "Run") -> None:
    """Each member's weight and scores, then the ensemble's."""
    from fmnist.scoring.figures import headline

    weights = made.recipe_json["model"]["weights"]
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
    )
    if useless := [run.name for run, part in zip(members, weights, strict=True) if not part]:
        print(f"of weight 0, which costs time for nothing; leave out: {', '.join(useless)}")
    for split in ("val", "test"):
        if split in made.scores:
            print(f"{split} accuracy: {headline(made.scores[split])}")
    if len(set(weights)) > 1:
        print("(the weights are fitted on val: its val flatters it a little)")
    print(f"run folder: {made.path}")


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="A name or a recipe.json [default: quick]."),
    ] = None,
    settings: Settings = None,
    data: Folder = None,
    run: NewRun = None,
    resume: OldRun = None,
    fit_on: FitOn = None,
    teacher: Teacher = None,
    test: Test = False,
    memory: Memory = None,
    micro_batch: MicroBatch = None,
    checkpoint_seconds: Seconds = None,
    checkpoint_updates: Updates = None,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a recipe into a new run folder, or go on with an interrupted run."""
    by_hand = (coordinator, num_processes, process_id)
    first = True
    if distributed:
        if memory:
            raise UsageError("--memory: is one process's; with --distributed say --micro-batch")
        os.environ.setdefault("KERAS_BACKEND", "jax")
        from fmnist.engine.distributed import initialise

        first = initialise(*by_hand)
    elif by_hand != (None, None, None):
        raise UsageError("--coordinator, --num-processes, --process-id: go with --distributed")
    from fmnist.cli.options import parse_size
    from fmnist.recipes.shipped import parse_settings
    from fmnist.recipes.shipped import recipe as find_recipe
    from fmnist.runs.commands import command
    from fmnist.runs.run import Run, find_run

    changes = parse_settings(settings or [])
    if fit_on:
        changes["fit_on"] = fit_on
    if resume and (recipe or changes or run or teacher or memory or micro_batch):
        raise UsageError(
            "--resume: goes on with what the run recorded; leave out the other options"
        )
    chosen = find_recipe(recipe or "quick", **changes)
    limit = parse_size(memory) if memory else None
    if limit and micro_batch:
        raise UsageError("--memory: chooses the micro-batch; leave out --micro-batch")
    chosen.check_micro_batch(micro_batch)
    if run and first:
        Run.refuse_existing(run)
    teachers = [find_run(each) for each in teacher or []]
    for each in teachers:
        each.require_weights()
    recorded = None
    if resume and first:
        resume = find_run(resume).path
        Run(resume).require_unfinished()
        recorded = Run(resume).env["data"]
    if distributed and resume:
        from fmnist.engine.distributed import share as share_first

        recorded = share_first(recorded)
    loaded = load(recorded_folder(recorded, data) if recorded else data)
    if not resume:
        chosen.check_shape(loaded.shape, len(loaded.classes))

    from fmnist.recipes.text import VIEWS
    from fmnist.scoring.evaluate import evaluate as score_run
    from fmnist.scoring.figures import headline
    from fmnist.training import train as training
    from fmnist.training.progress import Progress

    progress = Progress("none" if quiet or not first else "auto")
    if resume:
        result = training.resume(
            resume,
            loaded,
            checkpoint_seconds=checkpoint_seconds,
            checkpoint_updates=checkpoint_updates,
            progress=progress,
        )
    else:
        result = training.train(
            chosen,
            loaded,
            run,
            teachers=teachers,
            micro_batch=micro_batch,
            memory_limit=limit,
            checkpoint_seconds=checkpoint_seconds,
            checkpoint_updates=checkpoint_updates,
            progress=progress,
        )
    if not first:
        return
    score = score_run(result, loaded.test) if test else None
    if as_json:
        print_json(
            {"run": str(result.path), "scores": result.scores, "metrics": result.metrics()[-1]}
        )
        return
    if "val" in result.scores:
        views = VIEWS[result.scores["val"]["views"]]
        print(f"val accuracy: {headline(result.scores['val'])}, {views}")
    print(f"run folder: {result.path}")
    if score:
        print(f"by class: {command('runs', 'show', result.path)}")
        if result.recipe == find_recipe("quick"):
            print(f"a stronger model: {command('train', 'standard', '--test')}")
        print(f"ACCURACY: {score.headline()}")
    else:
        print(f"score on test: {command('evaluate', result.path, '--split', 'test')}")


def ensemble(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Finished runs, or their names.")
    ],
    run: NewRun = None,
    equal: Annotated[
        bool, typer.Option("--equal", help="The plain mean, instead of weights fitted on val.")
    ] = False,
    test: Test = False,
    data: Folder = None,
    as_json: Json = False,
) -> None:
    """Average runs' answers: a new run, which is scored and exported like any other."""
    from fmnist.runs.run import Run, find_run

    if run:
        Run.refuse_existing(run)
    members = [find_run(each) for each in runs]
    for each in members:  # before anything heavy is loaded
        each.require_weights()
    loaded = load(folder_of(members[0], data))
    members[0].require_data(loaded.hash, loaded.name)  # before there is what cannot be scored

    from fmnist.scoring.evaluate import evaluate as score_run
    from fmnist.training.ensemble import create

    made = create(members, run, equal=equal)
    if made.recipe.fit_on == "train":
        score_run(made, loaded.val)
    if test:
        score_run(made, loaded.test)
    if as_json:
        weights = made.recipe_json["model"]["weights"]
        print_json({"run": str(made.path), "weights": weights, "scores": made.scores})
    else:
        show_ensemble(members, made)
