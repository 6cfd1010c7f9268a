"""The command line: arguments and exit codes, nothing else.

Heavy imports stand inside the commands, so that `fmnist --help` answers at once.
"""

import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fmnist import __version__
from fmnist.errors import DataError, FmnistError, UsageError

if TYPE_CHECKING:
    from fmnist.data import Data
    from fmnist.runs import Run

ABOUT = "Train, score and iterate over image classifiers for Fashion-MNIST and its kin."
EXIT_CODES = """
Exit codes: 0 done; 1 failed; 2 a wrong option, recipe or argument; 3 data could not be had or was
refused; 4 the loss became no number; 5 a run folder or model is missing, damaged or in use; 6
memory was short; 129, 130 or 143 stopped by a closed terminal, Ctrl-C or a termination signal
(training then leaves a checkpoint to go on from).
"""
PICTURES = (".png", ".svg", ".pdf", ".jpg")

app = typer.Typer(
    help=ABOUT,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
runs_app = typer.Typer(rich_markup_mode=None)
app.add_typer(runs_app, name="runs")


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A name or a recipe.json.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or its name.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a recipe field or model option; repeatable. fmnist recipes NAME lists them.",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="IDX files, or images by class [default: FMNIST_DATA, else Fashion-MNIST].",
    ),
]
NewRun = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", help="The folder to make [default: one under runs/]."),
]
OldRun = Annotated[
    Path | None, typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run.")
]
FitOn = Annotated[
    str | None,
    typer.Option("--fit-on", metavar="train|all", help="all: on the validation images too."),
]
Teacher = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        metavar="RUN",
        help="Learn a finished run's outputs beside the labels; repeated: their mean.",
    ),
]
Test = Annotated[
    bool, typer.Option("--test", help="Score the test split at the end; the ledger notes it.")
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory", metavar="SIZE", help="Memory to stay within, as 4GB: a GPU's, else resident."
    ),
]
MicroBatch = Annotated[
    int | None,
    typer.Option(
        "--micro-batch",
        metavar="N",
        help="Images on the device at once [default: as memory permits].",
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        "--checkpoint-seconds",
        metavar="S",
        help="How often to keep the whole state [default: 300, or 100 times what it takes].",
    ),
]
Updates = Annotated[
    int | None,
    typer.Option("--checkpoint-updates", metavar="N", min=1, help="And after every N updates."),
]
Distributed = Annotated[
    bool,
    typer.Option(
        "--distributed",
        help="Divide each batch among all devices of the processes that SLURM, mpirun or the next "
        "three options name (on JAX).",
    ),
]
Coordinator = Annotated[
    str | None,
    typer.Option("--coordinator", metavar="HOST:PORT", help="Where process 0 listens."),
]
NumProcesses = Annotated[
    int | None, typer.Option("--num-processes", metavar="N", min=1, help="How many there are.")
]
ProcessId = Annotated[
    int | None, typer.Option("--process-id", metavar="I", min=0, help="Which this is, from 0.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Split = Annotated[
    str, typer.Option("--split", metavar="val|test", help="test is noted in the ledger.")
]
Subjects = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN RUN...",
        help="Folders or names; RUN,RUN,RUN is a group, as of seeds, and NAME=RUN,RUN names it.",
    ),
]
Picture = Annotated[
    Path | None, typer.Option("--show", metavar="FILE", help="Write a picture of samples.")
]
Sort = Annotated[
    str,
    typer.Option(
        "--sort",
        metavar="name|val|test|parameters|seconds",
        help="Accuracies the highest first, the others the lowest.",
    ),
]
OfRecipe = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME", help="Only runs of this recipe.")
]
Parameters = Annotated[
    str | None,
    typer.Option(
        "--parameters",
        metavar="MIN..MAX",
        help="Only networks of so many parameters; either end may be left out.",
    ),
]
RunsFolder = Annotated[Path, typer.Option("--in", metavar="DIR", help="The folder of the runs.")]


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _say(text: str) -> None:
    """Something about the command's progress, kept out of its output."""
    print(text, file=sys.stderr, flush=True)


def _load(folder: Path | None) -> "Data":
    from fmnist.data import load_data
    from fmnist.sources import progress_bar

    with progress_bar() as progress:
        return load_data(folder, progress=progress, report=_say)


def _folder_named(folder: Path | None) -> str:
    """The data folder asked for by option or FMNIST_DATA, from the root; empty for none."""
    asked = folder or os.environ.get("FMNIST_DATA")
    if asked and not Path(asked).is_dir():
        raise DataError(f"{asked}: expected a folder of images, found none")
    return str(Path(asked).resolve()) if asked else ""


def _check_split(split: str) -> None:
    if split not in ("val", "test"):
        raise UsageError(f"--split: expected val or test, received {split!r}")


def _folder_of(run: "Run", asked: Path | None) -> Path | None:
    """The data folder for a run: the one asked for, else the one that it was trained on."""
    return _recorded_folder(run.env["data"], asked)


def _recorded_folder(recorded: dict[str, Any], asked: Path | None) -> Path | None:
    folder = recorded.get("folder")  # a committed record names none
    if asked or not folder:
        return asked
    known = recorded.get("name") == "fashion-mnist"  # is found anew if the folder is gone
    return None if known and not Path(folder).is_dir() else Path(folder)


@app.command()
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
        from fmnist.distributed import initialise

        first = initialise(*by_hand)
    elif by_hand != (None, None, None):
        raise UsageError("--coordinator, --num-processes, --process-id: go with --distributed")
    from fmnist.memory import parse_size
    from fmnist.recipes import Recipe, parse_settings
    from fmnist.recipes import recipe as find_recipe
    from fmnist.runs import Run, command, find_run

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
        from fmnist.distributed import share as share_first

        recorded = share_first(recorded)
    loaded = _load(_recorded_folder(recorded, data) if recorded else data)
    if not resume:
        chosen.check_shape(loaded.shape, len(loaded.classes))

    from fmnist import training
    from fmnist.evaluation import evaluate as score_run
    from fmnist.progress import Progress
    from fmnist.tables import VIEWS, share

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
        _print_json(
            {"run": str(result.path), "scores": result.scores, "metrics": result.metrics()[-1]}
        )
        return
    if "val" in result.scores:
        views = VIEWS[result.scores["val"]["views"]]
        print(f"val accuracy: {share(result.scores['val'])}, {views}")
    print(f"run folder: {result.path}")
    if score:
        print(f"by class: {command('runs', 'show', result.path)}")
        if Recipe.from_json(result.recipe) == find_recipe("quick"):
            print(f"a stronger model: {command('train', 'standard', '--test')}")
        print(f"ACCURACY: {score.headline()}")
    else:
        print(f"score on test: {command('evaluate', result.path, '--split', 'test')}")


@app.command()
def evaluate(
    run: RunFolder, split: Split = "val", data: Folder = None, as_json: Json = False
) -> None:
    """Score a finished run: accuracy with interval, loss, calibration, per class, confusion."""
    from fmnist.runs import find_run

    _check_split(split)
    opened = find_run(run)
    opened.require_weights()
    loaded = _load(_folder_of(opened, data))

    from fmnist.evaluation import evaluate as score_run
    from fmnist.tables import show_score

    score = score_run(opened, loaded.test if split == "test" else loaded.val)
    if as_json:
        _print_json(score.to_json())
    else:
        show_score(score)


@app.command()
def verify(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or their names.")
    ],
    data: Folder = None,
    as_json: Json = False,
) -> None:
    """Score runs again from their weights: do they still give what they claim to?"""
    from fmnist.runs import find_run

    opened = [find_run(run) for run in runs]
    for run in opened:  # before anything heavy is loaded
        run.require_weights()

    from fmnist.tables import show_verification
    from fmnist.verify import verify as verify_run

    results = []
    for run in opened:
        results.append(verify_run(run, _load(_folder_of(run, data))))
        if not as_json:
            show_verification(results[-1])
    if as_json:
        _print_json([result.to_json() for result in results])
    if failed := [result.run for result in results if not result.passed]:
        raise FmnistError(f"not what was claimed: {', '.join(failed)}")


@app.command()
def export(
    run: RunFolder,
    form: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="safetensors, onnx, litert or keras."),
    ] = "safetensors",
    storage: Annotated[
        list[str] | None,
        typer.Option(
            "--storage",
            metavar="TYPE",
            help="float16, int8 or float32; repeatable [default: float16; keras: float32].",
        ),
    ] = None,
    part_size: Annotated[
        str | None,
        typer.Option("--part-size", metavar="SIZE", help="Cut larger files into parts, as 95MB."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder [default: exports/RUN-FORMAT-TYPE]."),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="RUN",
            help="Of a run on all images: take the temperature of one alike that kept val apart.",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over an earlier export in the folder.")
    ] = False,
    data: Folder = None,
    as_json: Json = False,
) -> None:
    """Write a run for elsewhere, with a card, and score it there: weights, ONNX, LiteRT, Keras."""
    from fmnist.memory import parse_size
    from fmnist.runs import find_run

    storages: list[str | None] = [*storage] if storage else [None]
    if out and len(storages) > 1:
        raise UsageError("--out: names one folder; give one --storage with it")
    size = parse_size(part_size, "--part-size") if part_size else None
    opened = find_run(run)
    opened.require_weights()
    loaded = _load(_folder_of(opened, data))

    from fmnist.exports import export as export_run
    from fmnist.tables import show_export

    made = []
    for each in storages:
        made.append(
            export_run(
                opened,
                form,  # type: ignore[arg-type]
                loaded,
                storage=each,  # type: ignore[arg-type]
                out=out,
                part_size=size,
                calibrate=find_run(calibrate) if calibrate else None,
                replace=replace,
            )
        )
        if not as_json:
            show_export(made[-1])
    if as_json:
        _print_json([each.to_json() for each in made])


@app.command()
def predict(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Images, folders, patterns, IDX files; - is stdin."),
    ],
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="MODEL", help="An .onnx file or a folder that holds one."),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="How many classes.")] = 3,
    as_is: Annotated[
        bool, typer.Option("--raw", help="The images are in the data set's form, no photos.")
    ] = False,
    show_in: Annotated[
        Path | None,
        typer.Option(
            "--show",
            metavar="DIR|FILE",
            help="Write pictures of each photo beside what the model saw; FILE.png for one.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object an image, a line each.")
    ] = False,
) -> None:
    """Say what photos of clothes show, or images in the data set's form."""
    from fmnist.answers import answer
    from fmnist.predict import Classifier

    classifier = Classifier.load(model)
    refused = answer(
        classifier, files, top=top, as_is=as_is, show_in=show_in, as_json=as_json, say=_say
    )
    if refused:
        raise typer.Exit(1)


@app.command()
def serve(
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="MODEL", help="An .onnx file or a folder that holds one."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0: everywhere.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="0: one that is free.")
    ] = 8000,
    threads: Annotated[
        int,
        typer.Option("--threads", metavar="N", min=0, help="Of the model, and to decode; 0: all."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Say over HTTP what images show, and host the page to try it, until Ctrl-C."""
    from fmnist.serve import serve as serve_until_stopped

    def ready(address: str) -> None:
        if as_json:
            _print_json({"address": address})
        else:
            print(f"serving at {address} until Ctrl-C")
        sys.stdout.flush()

    serve_until_stopped(model, host=host, port=port, threads=threads, ready=ready)


@app.command()
def sweep(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="Where it starts from [default: quick]."),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="NAME=VALUES",
            help="A field to search: A/B/C, LOW..HIGH or log:LOW..HIGH; repeatable.",
        ),
    ] = None,
    settings: Settings = None,
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=0, help="How many trials in all.")
    ] = 20,
    minutes: Annotated[
        float,
        typer.Option("--minutes", metavar="M", min=0, help="No trial begins after that long."),
    ] = float("inf"),
    data: Folder = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder to make [default: under sweeps/]."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="SWEEP", help="Go on with a sweep.")
    ] = None,
    storage: Annotated[
        str,
        typer.Option(
            "--storage",
            metavar="URL",
            help="A storage of Optuna's [default: a file in the folder].",
        ),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the proposals.")] = 0,
    no_prune: Annotated[
        bool, typer.Option("--no-prune", help="Let every trial train to its end.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Trials on a Ray cluster, all trained to their end: HOST:PORT, auto or local.",
        ),
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option(
            "--cpus-per-trial", metavar="N", min=1, help="With --ray: a trial's cores [default: 1]."
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-trial",
            metavar="X",
            min=0,
            max=1,
            help="With --ray: a trial's GPU, or share of one [default: 0].",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search over a recipe's fields; each trial is a run of its own, val decides."""
    from fmnist.recipes import parse_settings
    from fmnist.recipes import recipe as find_recipe

    if resume and (recipe or over or settings or data or out or storage or seed or no_prune):
        raise UsageError("--resume: goes on with what the sweep recorded; leave out the others")
    if ray is None and (cpus is not None or gpus is not None):
        raise UsageError("--cpus-per-trial, --gpus-per-trial: say --ray ADDRESS too")
    chosen = find_recipe(recipe or "quick", **parse_settings(settings or []))

    from fmnist import cluster
    from fmnist.progress import SweepProgress, ranked
    from fmnist.sweep import Sweep
    from fmnist.tables import show_sweep

    if ray is not None:
        cluster.connect(ray, cpus or 1, gpus or 0)
    if resume:
        opened = Sweep(resume)
    else:
        folder = _folder_named(data)
        opened = Sweep.create(
            out, chosen, over or [], data=folder, storage=storage, seed=seed,
            prune=not (no_prune or ray),
        )  # fmt: skip
    if not quiet:
        _say(f"sweep of {opened.recipe.name} over {', '.join(opened.space)}, into {opened.path}")
    with SweepProgress(quiet) as progress:
        if ray is None:
            opened.search(trials, minutes, progress.show)
        else:
            cluster.search(opened, trials, minutes, progress.show, cpus=cpus or 1, gpus=gpus or 0)
    rows, best = ranked(opened.rows()), opened.best()
    command = opened.command_for(best) if best else ""
    if as_json:
        _print_json({"sweep": str(opened.path), "best": best, "command": command, "trials": rows})
    else:
        show_sweep(rows, best, command)
    if best is None and rows:
        raise FmnistError(f"{opened.path}: no trial was finished")


@app.command()
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
    from fmnist.runs import Run, find_run

    if run:
        Run.refuse_existing(run)
    members = [find_run(each) for each in runs]
    for each in members:  # before anything heavy is loaded
        each.require_weights()
    loaded = _load(_folder_of(members[0], data))
    if loaded.hash != members[0].env["data"]["hash"]:  # before there is what cannot be scored
        raise UsageError(f"--data: expected the data of {members[0].path}, received {loaded.name}")

    from fmnist.ensemble import create
    from fmnist.evaluation import evaluate as score_run
    from fmnist.tables import show_ensemble

    made = create(members, run, equal=equal)
    if made.recipe["fit_on"] == "train":
        score_run(made, loaded.val)
    if test:
        score_run(made, loaded.test)
    if as_json:
        weights = made.recipe["model"]["weights"]
        _print_json({"run": str(made.path), "weights": weights, "scores": made.scores})
    else:
        show_ensemble(members, made)


@app.command()
def audit(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="A name or a recipe.json [default: quick]."),
    ] = None,
    settings: Settings = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            metavar="N",
            help="Parts, each judged by a model of the others [default: 5].",
        ),
    ] = None,
    data: Folder = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The new folder [default: one under audits/]."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="AUDIT", help="Go on with an interrupted audit."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find labels that look wrong and images that are nearly the same; changes nothing."""
    from fmnist import audit as auditing
    from fmnist.progress import Progress
    from fmnist.recipes import parse_settings
    from fmnist.recipes import recipe as find_recipe
    from fmnist.tables import show_audit

    if resume and (recipe or settings or folds is not None or out):
        raise UsageError(
            "--resume: goes on with what the audit recorded; leave out the other options"
        )
    chosen = find_recipe(recipe or "quick", **parse_settings(settings or []))
    folds = auditing.FOLDS if folds is None else folds
    progress = Progress("none" if quiet else "auto")
    if resume:
        recorded = auditing.read_settings(resume)["data"]
        loaded = _load(_recorded_folder(recorded, data))
        found = auditing.resume(resume, loaded, progress=progress)
    else:
        auditing.check(chosen, folds)
        if out:
            auditing.refuse_existing(out)
        found = auditing.audit(chosen, _load(data), out, folds=folds, progress=progress)
    if as_json:
        _print_json(found)
    else:
        show_audit(found)


@app.command()
def compare(subjects: Subjects, split: Split = "val", as_json: Json = False) -> None:
    """Compare runs on the same images: which is better, by how much, and is it chance?"""
    import dataclasses

    from fmnist.compare import compare as compare_all
    from fmnist.compare import open_subject, sentence
    from fmnist.runs import find_run
    from fmnist.tables import show_comparison

    _check_split(split)
    opened = []
    for subject in subjects:
        name, _, members = subject.rpartition("=")
        opened.append(open_subject([find_run(m) for m in members.split(",")], split, name))
    pairs = compare_all(opened)
    if as_json:
        _print_json({
            "split": split, "n": len(opened[0].labels), "sentence": sentence(opened, pairs),
            "subjects": [each.describe() for each in opened],
            "pairs": [dataclasses.asdict(pair) for pair in pairs],
        })  # fmt: skip
    else:
        show_comparison(opened, pairs, split)


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or their names.")
    ],
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="val|test",
            help="Of a split that was scored [default: val, or test where trained on all].",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images", metavar="N,N,N", help="The images whose regions are looked at, by index."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The page [default: reports/RUN.html]."),
    ] = None,
    data: Folder = None,
    as_json: Json = False,
) -> None:
    """Write a page about a run, or a comparison of several, with every plot and picture in it."""
    from fmnist.runs import find_run

    if split is not None:
        _check_split(split)
    chosen = [part.strip() for part in images.split(",")] if images else []
    if not all(part.isdecimal() and len(part) < 10 for part in chosen):
        raise UsageError(f"--images: expected whole numbers as 12,345, received {images!r}")
    opened = [find_run(run) for run in runs]

    from fmnist.report import choose_split, write_report

    split = choose_split(opened, split)
    loaded = _load(_folder_of(opened[0], data))
    made = write_report(opened, split, loaded, out, [int(part) for part in chosen])
    if as_json:
        _print_json(made)
    else:
        print(f"report: {made['report']}")


@app.command()
def data(folder: Folder = None, show: Picture = None, as_json: Json = False) -> None:
    """Find, fetch if need be, verify and describe the data."""
    from fmnist.data import describe, draw_samples
    from fmnist.tables import show_data

    if show and show.suffix.lower() not in PICTURES:
        raise UsageError(f"--show: expected a name in {', '.join(PICTURES)}, received {show}")
    loaded = _load(folder)
    about = describe(loaded)
    if show:
        draw_samples(loaded, show)
        about["picture"] = str(show)
    if as_json:
        _print_json(about)
    else:
        show_data(about)


@app.command()
def doctor(
    seconds: Annotated[
        float,
        typer.Option(
            "--time-limit", metavar="S", min=0.1, help="How long each engine may take to answer."
        ),
    ] = 120,
    as_json: Json = False,
) -> None:
    """Look for what is wrong with this machine and installation, and say how to mend it."""
    from fmnist.doctor import diagnose, lines, to_json

    findings = diagnose(seconds)
    if as_json:
        _print_json(to_json(findings))
    else:
        print(*lines(findings), sep="\n")
    if wrong := [finding.about for finding in findings if finding.level == "wrong"]:
        raise FmnistError(f"broken: {', '.join(dict.fromkeys(wrong))}")


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

    from fmnist.tables import show_recipe

    if name in module.RECIPES:
        print(inspect.getdoc(module.RECIPES[name]), end="\n\n")
    show_recipe(recipe)


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
            {
                "name": layer.name,
                "kind": type(layer).__name__,
                "parameters": layer.count_params(),
                "shape": list(layer.output.shape[1:]),
            }
            for layer in model.layers
        ]
        _print_json({"recipe": chosen.name, "parameters": model.count_params(), "layers": layers})
    else:
        model.summary(print_fn=print, line_length=80)


@runs_app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    folder: RunsFolder = Path("runs"),
    sort: Sort = "name",
    recipe: OfRecipe = None,
    parameters: Parameters = None,
    as_json: Json = False,
) -> None:
    """Table the runs, show one, or delete some."""
    if context.invoked_subcommand is not None:
        if as_json:
            raise UsageError(f"--json: put it after {context.invoked_subcommand}")
        return
    from fmnist.runs import Run, run_folders
    from fmnist.tables import parse_range, run_row, show_runs, sort_rows

    low, high = parse_range(parameters or "..")
    rows: list[dict[str, Any]] = []
    for path in run_folders(folder):
        try:
            rows.append(run_row(Run(path)))
        except FmnistError as error:  # one damaged run hides no other
            _say(f"note: left out: {error}")
    there = len(rows)
    rows = [r for r in rows if low <= r["parameters"] <= high and recipe in (None, r["recipe"])]
    rows = sort_rows(rows, sort)
    if as_json:
        _print_json(rows)
    elif rows:
        show_runs(rows)
    elif there:
        print(f"none of the {there} runs in {folder} is such a run")
    else:
        print(f"no runs in {folder} yet; fmnist train makes one")


@runs_app.command()
def show(run: RunFolder, as_json: Json = False) -> None:
    """Show all about a run: recipe, environment, learning curve, scores."""
    from fmnist.runs import find_run
    from fmnist.tables import show_run

    opened = find_run(run)
    if not as_json:
        show_run(opened)
        return
    _print_json(
        {
            "run": opened.name,
            "recipe": opened.recipe,
            "env": opened.env,
            "metrics": opened.metrics(),
            "scores": opened.scores,
            "times_opened": opened.times_opened(),
        }
    )


@runs_app.command()
def delete(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or their names.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete runs, after asking; never one that the ledger or a record names."""
    from fmnist.runs import find_run

    opened = list({run.path.resolve(): run for run in map(find_run, runs)}.values())
    for run in opened:  # all are looked at before any goes
        run.require_deletable()
    names = ", ".join(str(run.path) for run in opened)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError(f"runs delete: expected --yes where nobody can be asked, for {names}")
        if not typer.confirm(f"delete {names}?", err=True):
            raise UsageError("runs delete: received no; nothing was deleted")
    for run in opened:
        run.delete()
        if not as_json:
            print(f"deleted {run.path}")
    if as_json:
        _print_json({"deleted": [str(run.path) for run in opened]})


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fmnist {__version__}")
        raise typer.Exit


@app.callback(help=ABOUT)
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that come before a command."""


def main() -> NoReturn:
    """The `fmnist` command: runs it and exits, an error as one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × gets a question mark
    try:
        try:
            app(prog_name="fmnist")
        except Exception as error:
            if distributed := sys.modules.get("fmnist.distributed"):
                distributed.leave(error)  # one of several processes ends here
            raise
    except FmnistError as error:
        _say(f"error: {error}" if error.exit_code < 128 else str(error))
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        _say(
            f"error: this command needs more packages ({error.name} is missing): "
            'pip install "fmnist[train]"'
        )
        sys.exit(2)
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # the reader went away; at exit there must be nothing left to say
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


if __name__ == "__main__":
    main()
