"""`fmnist audit`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fmnist.cli.options import Folder, Json, Quiet, Settings, load, print_json, recorded_folder
from fmnist.cli.tables import table
from fmnist.errors import UsageError


def show_audit(audit: dict[str, Any]) -> None:
    """The pairs of classes with most suspicious labels, duplicates by split, a line, the paths."""
    labels, duplicates = audit["labels"], audit["duplicates"]
    pairs = [pair for pair in labels["pairs"] if pair["suspicious"]]
    table(
        ["given → suggested", "suspicious", "estimated"],
        [
            [f"{p['given']} → {p['suggested']}", f"{p['suspicious']:,}", f"{p['estimated']:,.0f}"]
            for p in pairs[:10]
        ],
    )
    if len(pairs) > 10:
        print(f"and {len(pairs) - 10} more")
    print()
    table(
        ["near-duplicates", "pairs", "exact", "labels differ"],
        [
            [splits, *(f"{counts[k]:,}" for k in ("pairs", "exact", "labels_differ"))]
            for splits, counts in duplicates["by_splits"].items()
        ],
    )
    for name in ("index.html", "labels.jsonl", "duplicates.jsonl", "audit.json"):
        print(f"{audit['folder']}/{name}")
    print(
        f"AUDIT: {labels['suspicious']:,} of {labels['n']:,} labels suspicious, an estimated "
        f"{labels['estimated_share']:.1%} wrong; {duplicates['pairs']:,} pairs of "
        f"{duplicates['n']:,} images nearly the same, {duplicates['labels_differ']:,} with "
        "different labels"
    )


def audit(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="A name or a recipe.json [default: quick]."),
    ] = None,
    settings: Settings = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds", metavar="N", help="Parts, each judged by a model of the others [default: 5]."
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
    from fmnist.audit import audit as auditing
    from fmnist.recipes.shipped import parse_settings
    from fmnist.recipes.shipped import recipe as find_recipe
    from fmnist.training.progress import Progress

    if resume and (recipe or settings or folds is not None or out):
        raise UsageError(
            "--resume: goes on with what the audit recorded; leave out the other options"
        )
    chosen = find_recipe(recipe or "quick", **parse_settings(settings or []))
    folds = auditing.FOLDS if folds is None else folds
    progress = Progress("none" if quiet else "auto")
    if resume:
        recorded = auditing.read_settings(resume)["data"]
        loaded = load(recorded_folder(recorded, data))
        found = auditing.resume(resume, loaded, progress=progress)
    else:
        auditing.check(chosen, folds)
        if out:
            auditing.refuse_existing(out)
        found = auditing.audit(chosen, load(data), out, folds=folds, progress=progress)
    if as_json:
        print_json(found)
    else:
        show_audit(found)
