"""`fmnist export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmnist.cli.loading import Folder, load_of
from fmnist.cli.options import Json, RunFolder, check_split, open_finished, parse_size, print_json
from fmnist.errors import UsageError
from fmnist.recipes.text import VIEWS

if TYPE_CHECKING:
    from fmnist.exports.outcome import Export
    from fmnist.runs.run import Run


def show_export(export: "Export", run: "Run") -> None:
    """Where the file is, how large, and what it scores beside the run itself."""
    low, high = export.interval
    parts = f" in {len(export.parts)} parts" if len(export.parts) > 1 else ""
    print(
        f"{export.folder}: {export.format}, {export.storage}, {export.size / 1e6:,.2f} MB{parts}; "
        f"{export.split} {export.accuracy:.2%}, {VIEWS[export.views]} "
        f"(n={export.n:,}, 95% CI {100 * low:.2f}–{100 * high:.2f}), "
        f"the run itself {export.before:.2%}; answers changed: {export.changed:,}, "
        f"logits differ by up to {export.largest_difference:.2g}"
        + ("" if export.format == "safetensors" else f"; temperature {export.temperature:.3f}")
    )
    if export.photo_score:
        on = export.photo_score
        print(
            f"  on {on['n']:,} photos {on['right']:.1%} right, {on['wrong_and_sure']:.1%} wrong "
            f"and sure, which it is from a probability of {export.doubt:.2f} on"
        )
    if export.views != run.recipe.views and (evaluated := run.scores.get(export.split)):
        print(f"  the run scores {evaluated['accuracy']:.2%} by the {VIEWS[run.recipe.views]}")
    if export.split == "val":
        learnt = ", which the run was trained on" if run.recipe.fit_on == "all" else ""
        print(
            f"  scored on val{learnt}: the run has no score on test, and an export never opens it"
        )


def export(
    run: RunFolder,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="File format: safetensors, onnx, litert (tflite) or keras; or huggingface, a "
            "folder for its Hub.",
        ),
    ] = "safetensors",
    storage: Annotated[
        list[str] | None,
        typer.Option(
            "--storage",
            metavar="TYPE",
            help="Type of the stored weights: float16, int8 or float32; repeat it to write "
            "several files [default: float16; for keras float32].",
        ),
    ] = None,
    part_size: Annotated[
        str | None,
        typer.Option(
            "--part-size",
            metavar="SIZE",
            help="Cut a safetensors file into parts of at most this size, such as 95MB.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Folder to write into [default: exports/RUN-FORMAT-TYPE]."
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="RUN",
            help="For a run trained on all images: take the temperature from this run, of the "
            "same recipe, which kept a validation split.",
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos",
            metavar="DIR",
            help="Photos that the run has not learnt, in folders as for fmnist train --photos: "
            "they tell from which probability on an answer is sure.",
        ),
    ] = None,
    views: Annotated[
        str,
        typer.Option(
            "--views",
            metavar="one|flip",
            help="What an ONNX file answers by: the image alone, or the mean over it and its "
            "mirror image, in twice the time.",
        ),
    ] = "one",
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="val|test",
            help="Split to score the file on [default: test if the run was scored on it, "
            "else val].",
        ),
    ] = None,
    allow_loss: Annotated[
        float | None,
        typer.Option(
            "--allow-loss",
            metavar="POINTS",
            help="Points of accuracy that the file may lose against the run [default: 0.5].",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite an earlier export in the folder.")
    ] = False,
    data: Folder = None,
    as_json: Json = False,
) -> None:
    """Write a run as a file to share or deploy.

    The written file is scored by the runtime that will use it, and the score is compared with the
    run's own. A model card is written beside it.
    """
    if split:
        check_split(split)
    storages: list[str | None] = [*storage] if storage else [None]
    if out and len(storages) > 1:
        raise UsageError("--out: names one folder; give only one --storage with it")
    form = "litert" if form == "tflite" else form
    size = parse_size(part_size, "--part-size") if part_size else None
    (opened,) = open_finished([run])
    loaded = load_of(opened, data)

    from fmnist.exports.export import export as export_run
    from fmnist.runs.run import find_run

    exports = []
    for kind in storages:
        exports.append(
            export_run(
                opened,
                form,  # type: ignore[arg-type]
                loaded,
                storage=kind,  # type: ignore[arg-type]
                out=out,
                part_size=size,
                calibrate=find_run(calibrate) if calibrate else None,
                photos=photos,
                views=views,  # type: ignore[arg-type]
                split=split,
                allow_loss=allow_loss,
                replace=replace,
            )
        )
        if not as_json:
            show_export(exports[-1], opened)
    if as_json:
        print_json([export.to_json() for export in exports])
