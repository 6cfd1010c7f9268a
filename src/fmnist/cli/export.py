"""`fmnist export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmnist.cli.options import Folder, Json, RunFolder, folder_of, load, print_json
from fmnist.errors import UsageError

if TYPE_CHECKING:
    from fmnist.exports.outcome import Export


def show_export(made: "Export") -> None:
    """Where, how large, and what it scores beside the run itself."""
    low, high = made.interval
    softened = "" if made.format == "safetensors" else f"; temperature {made.temperature:.3f}"
    print(
        f"{made.folder}: {made.format}, {made.storage}, {made.size / 1e6:,.2f} MB"
        f"{f' in {len(made.parts)} parts' if len(made.parts) > 1 else ''}; {made.split} "
        f"{made.accuracy:.2%} (n={made.n:,}, 95% CI {100 * low:.2f}–{100 * high:.2f}), the run "
        f"{made.before:.2%}; {made.changed:,} answers changed, logits by up to "
        f"{made.largest_difference:.2g}{softened}"
    )


def export(
    run: RunFolder,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="safetensors, onnx, litert or keras.")
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
    from fmnist.cli.options import parse_size
    from fmnist.runs.run import find_run

    storages: list[str | None] = [*storage] if storage else [None]
    if out and len(storages) > 1:
        raise UsageError("--out: names one folder; give one --storage with it")
    size = parse_size(part_size, "--part-size") if part_size else None
    opened = find_run(run)
    opened.require_weights()
    loaded = load(folder_of(opened, data))

    from fmnist.exports.export import export as export_run

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
        print_json([each.to_json() for each in made])
