"""`fmnist evaluate`, `verify`, `compare` and `report`: what judges runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmnist.cli.options import (
    Folder,
    Json,
    RunFolder,
    Split,
    Subjects,
    check_split,
    folder_of,
    load,
    print_json,
)
from fmnist.cli.tables import table
from fmnist.errors import FmnistError, UsageError

if TYPE_CHECKING:
    from fmnist.scoring.compare import Pair, Subject
    from fmnist.scoring.verify import Verification


def show_verification(result: "Verification") -> None:
    """A line a split, then what is another than when the run was made."""
    for check in result.checks:
        least = "" if check.exact else "at least "
        print(
            f"{result.run}: {'verified' if check.passed else 'NOT VERIFIED'}, {check.split} "
            f"{check.correct:,} of {check.n:,} right, claimed {check.claimed:,}; "
            f"{least}{check.changed:,} answers changed, {check.allowed:,} may"
            f"{'' if result.same_machine else ' on another machine'}"
        )
    for what, lines in result.differences.items():
        for line in lines:
            print(f"    {what}: {line}")


def show_comparison(subjects: Sequence["Subject"], pairs: Sequence["Pair"], split: str) -> None:
    """A sentence, then accuracy and cost side by side, then each pair by class and by image."""
    from fmnist.scoring.compare import sentence

    print(f"{sentence(subjects, pairs)}\n")
    rows = []
    for each in (subject.describe() for subject in subjects):
        low, high = each["interval"]
        seconds = each["seconds"]
        rows.append(
            [
                each["name"],
                str(len(each["runs"])),
                f"{100 * each['accuracy']:.2f}",
                f"{100 * low:.2f}–{100 * high:.2f}",
                "–" if each["deviation"] is None else f"{100 * each['deviation']:.2f}",
                f"{each['parameters']:,}",
                f"{each['operations'] / 1e6:,.0f}",
                "–" if seconds is None else f"{seconds:,.0f}",
                "–" if each["latency"] is None else f"{each['latency']:.2f}",
            ]
        )
    costs = ["parameters", "MFLOP", "training s", "ms an image"]
    table(["", "runs", f"{split} %", "95% CI", "between seeds", *costs], rows)
    for pair in pairs:
        print(
            f"\n{pair.first} → {pair.second}: only the first is right on {pair.only_first:,.4g} "
            f"images, only the second on {pair.only_second:,.4g} ({pair.method})"
        )
        table(
            ["class", "n", pair.first, pair.second, "only first", "only second"],
            [
                [
                    r["class"],
                    f"{r['n']:,}",
                    f"{r['first']:.2%}",
                    f"{r['second']:.2%}",
                    f"{r['only_first']:,.4g}",
                    f"{r['only_second']:,.4g}",
                ]
                for r in pair.per_class
            ],
        )
        print("furthest apart, by the probability of the label:")
        table(
            ["image", "label", pair.first, pair.second],
            [
                [
                    str(r["image"]),
                    r["label"],
                    *(f"{r[k]['class']} {r[k]['probability']:.0%}" for k in ("first", "second")),
                ]
                for r in pair.images[:5]
            ],
            left=4,
        )


def evaluate(
    run: RunFolder, split: Split = "val", data: Folder = None, as_json: Json = False
) -> None:
    """Score a finished run: accuracy with interval, loss, calibration, per class, confusion."""
    from fmnist.runs.run import find_run

    check_split(split)
    opened = find_run(run)
    opened.require_weights()
    loaded = load(folder_of(opened, data))

    from fmnist.cli.tables import show_score
    from fmnist.scoring.evaluate import evaluate as score_run

    score = score_run(opened, loaded.test if split == "test" else loaded.val)
    if as_json:
        print_json(score.to_json())
    else:
        show_score(score)


def verify(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or their names.")
    ],
    data: Folder = None,
    as_json: Json = False,
) -> None:
    """Score runs again from their weights: do they still give what they claim to?"""
    from fmnist.runs.run import find_run

    opened = [find_run(run) for run in runs]
    for run in opened:  # before anything heavy is loaded
        run.require_weights()

    from fmnist.scoring.verify import verify as verify_run

    results = []
    for run in opened:
        results.append(verify_run(run, load(folder_of(run, data))))
        if not as_json:
            show_verification(results[-1])
    if as_json:
        print_json([result.to_json() for result in results])
    if failed := [result.run for result in results if not result.passed]:
        raise FmnistError(f"not what was claimed: {', '.join(failed)}")


def compare(subjects: Subjects, split: Split = "val", as_json: Json = False) -> None:
    """Compare runs on the same images: which is better, by how much, and is it chance?"""
    import dataclasses

    from fmnist.runs.run import find_run
    from fmnist.scoring.compare import compare as compare_all
    from fmnist.scoring.compare import open_subject, sentence

    check_split(split)
    opened = []
    for subject in subjects:
        name, _, members = subject.rpartition("=")
        opened.append(open_subject([find_run(m) for m in members.split(",")], split, name))
    pairs = compare_all(opened)
    if as_json:
        print_json(
            {
                "split": split,
                "n": len(opened[0].labels),
                "sentence": sentence(opened, pairs),
                "subjects": [each.describe() for each in opened],
                "pairs": [dataclasses.asdict(pair) for pair in pairs],
            }
        )
    else:
        show_comparison(opened, pairs, split)


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
    from fmnist.runs.run import find_run

    if split is not None:
        check_split(split)
    chosen = [part.strip() for part in images.split(",")] if images else []
    if not all(part.isdecimal() and len(part) < 10 for part in chosen):
        raise UsageError(f"--images: expected whole numbers as 12,345, received {images!r}")
    opened = [find_run(run) for run in runs]

    from fmnist.report.report import choose_split, write_report

    split = choose_split(opened, split)
    loaded = load(folder_of(opened[0], data))
    made = write_report(opened, split, loaded, out, [int(part) for part in chosen])
    if as_json:
        print_json(made)
    else:
        print(f"report: {made['report']}")
