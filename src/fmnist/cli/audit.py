"""`fmnist audit`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fmnist.cli.loading import Folder, Size, SkipUnreadable, load, load_recorded
from fmnist.cli.options import (
    Json,
    Quiet,
    RecipeOrQuick,
    Settings,
    print_json,
    read_recipe,
    refuse_beside_resume,
)
from fmnist.cli.tables import paragraph, table


def show_audit(audit: dict[str, Any]) -> None:
    """The most suspicious labels, then pairs of classes, duplicates by split, paths, a summary."""
    labels, duplicates = audit["labels"], audit["duplicates"]
    table(
        ["image", "given → suggested", "given %", "suggested %"],
        [
            [
                str(row["image"]),
                f"{row['given']} → {row['suggested']}",
                f"{100 * row['self_confidence']:.1f}",
                f"{100 * row['suggested_probability']:.1f}",
            ]
            for row in labels["most_suspicious"]
        ],
        left=2,
    )
    print()
    pairs = [pair for pair in labels["pairs"] if pair["suspicious"]]
    table(
        ["given → suggested", "suspicious", "estimated"],
        [
            [f"{p['given']} → {p['suggested']}", f"{p['suspicious']:,}", f"{p['estimated']:,.0f}"]
            for p in pairs[:10]
        ],
    )
    if len(pairs) > 10:
        print(f"and {len(pairs) - 10} more pair{'s' * (len(pairs) != 11)} of classes")
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
    if labels["poor_models"]:
        paragraph(
            f"The models are poor judges: they agree with only {labels['right'] / labels['n']:.0%} "
            "of the labels. Most of what looks suspicious is their own mistake. Audit with a "
            "stronger recipe or more epochs."
        )
    paragraph(
        f"AUDIT: {labels['suspicious']:,} of {labels['n']:,} labels suspicious "
        f"(estimated share of wrong labels: {labels['estimated_share']:.1%}); near-duplicate pairs "
        f"among {duplicates['n']:,} images: {duplicates['pairs']:,}, "
        f"with different labels: {duplicates['labels_differ']:,}"
    )


def audit(
    recipe: RecipeOrQuick = None,
    settings: Settings = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            metavar="N",
            help="Number of parts. Each is judged by a model trained on the others [default: 5].",
        ),
    ] = None,
    data: Folder = None,
    size: Size = None,
    skip_unreadable: SkipUnreadable = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder to create [default: one in audits/]."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="AUDIT", help="Resume this interrupted audit."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find wrong labels and near-duplicate images.

    It writes lists of them and a page of pictures into a new folder. The data stays as it is.
    """
    from fmnist.audits import audit as auditing
    from fmnist.training.progress import Progress

    refuse_beside_resume(
        resume, "audit", recipe, settings, folds is not None, out, size, skip_unreadable
    )
    progress = Progress("none" if quiet else "auto")
    if resume:
        recorded = auditing.read_settings(resume)["data"]
        loaded = load_recorded(recorded, data)
        findings = auditing.resume(resume, loaded, progress=progress)
    else:
        chosen = read_recipe(recipe, settings)
        folds = auditing.FOLDS if folds is None else folds
        auditing.check(chosen, folds)
        if out:
            auditing.refuse_existing(out)
        findings = auditing.audit(
            chosen, load(data, size, skip_unreadable), out, folds=folds, progress=progress
        )
    if as_json:
        print_json(findings)
    else:
        show_audit(findings)
