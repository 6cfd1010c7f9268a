"""`fmnist evaluate`, `verify`, `compare` and `report`: the commands that judge runs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmnist.cli.loading import Folder, load_of
from fmnist.cli.options import (
    Json,
    RunFolder,
    RunFolders,
    ScoredSplit,
    Split,
    Subjects,
    Wide,
    check_split,
    open_finished,
    print_json,
)
from fmnist.cli.tables import paragraph, table
from fmnist.errors import FmnistError, UsageError, printable

if TYPE_CHECKING:
    from fmnist.runs.run import Run
    from fmnist.scoring.compare import Pair, Subject
    from fmnist.scoring.verify import Verification


def show_verification(result: "Verification") -> None:
    """A line for each split, then what has changed since the run was made."""
    machine = "the same" if result.same_machine else "another"
    for check in result.checks:
        least = "at least " if check.changed and not check.exact else ""
        print(
            f"{printable(result.run)}: {'verified' if check.passed else 'NOT VERIFIED'}, "
            f"{check.split} {check.correct:,} of {check.n:,} right, recorded {check.claimed:,}; "
            f"answers changed: {least}{check.changed:,} ({check.allowed:,} allowed on "
            f"{machine} machine)"
        )
    for subject, lines in result.differences.items():
        for line in lines:
            print(f"    {subject}: {line}")


def show_comparison(
    subjects: Sequence["Subject"], pairs: Sequence["Pair"], split: str, wide: bool = False
) -> None:
    """The verdict, accuracy and cost side by side, and of a single pair its classes and images."""
    if len(pairs) == 1:
        paragraph(str(pairs[0]))
        print()
    rows = []
    for about in (subject.describe() for subject in subjects):
        low, high = about["interval"]
        seconds = about["seconds"]
        rows.append(
            [
                about["name"],
                str(len(about["runs"])),
                f"{100 * about['accuracy']:.2f}",
                f"{100 * low:.2f}–{100 * high:.2f}",
                "–" if about["deviation"] is None else f"{100 * about['deviation']:.2f}",
                f"{about['parameters']:,}",
                f"{about['operations'] / 1e6:,.0f}",
                "–" if seconds is None else f"{seconds:,.0f}",
                "–" if about["latency"] is None else f"{about['latency']:.2f}",
            ]
        )
    costs = ["parameters", "MFLOP", "training s", "ms/image"]
    table(
        ["", "runs", f"{split} %", "95% CI", "SD of seeds", *costs],
        rows,
        optional=["ms/image", "training s", "MFLOP", "runs", "SD of seeds", "parameters"],
        wide=wide,
    )
    if len(pairs) == 1:
        _show_pair(pairs[0])
    else:
        _show_pairs(pairs)


def _show_pairs(pairs: Sequence["Pair"]) -> None:
    """A line for each of several pairs."""
    from fmnist.scoring.compare import CHANCE, correction, p_in_words

    print()
    paragraph(f"against {pairs[0].first}, image by image; intervals and p {correction(pairs)}:")
    rows = []
    for pair in pairs:
        low, high = (100 * bound for bound in pair.interval)
        verdict = "better" if pair.difference > 0 else "worse"
        rows.append(
            [
                pair.second,
                f"{100 * pair.difference:+.2f}",
                f"{low:+.2f} to {high:+.2f}",
                p_in_words(pair).removeprefix("= "),
                verdict if pair.p_corrected < CHANCE else "may be chance",
            ]
        )
    table(["", "points", "95% CI", "p", "verdict"], rows)
    print("\nclasses and images: compare two at a time")


def _show_pair(pair: "Pair") -> None:
    """The classes and images on which two differ."""
    decimals = 0 if pair.only_first.is_integer() and pair.only_second.is_integer() else 1
    print()
    paragraph(
        f"{pair.first} (first) → {pair.second} (second): only the first is right on "
        f"{pair.only_first:,.{decimals}f} images, only the second on "
        f"{pair.only_second:,.{decimals}f} ({pair.method})"
    )
    table(
        ["class", "n", "first", "second", "only first", "only second"],
        [
            [
                r["class"],
                f"{r['n']:,}",
                f"{r['first']:.2%}",
                f"{r['second']:.2%}",
                f"{r['only_first']:,.{decimals}f}",
                f"{r['only_second']:,.{decimals}f}",
            ]
            for r in pair.per_class
        ],
        optional=["n"],
    )
    paragraph("images on which they differ most in the probability of the label:")
    table(
        ["image", "label", "first", "second"],
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
    """Score a finished run on val or test.

    It prints accuracy with its 95% confidence interval, loss, calibration error, figures for each
    class and the confusion matrix.
    """
    check_split(split)
    (opened,) = open_finished([run])
    loaded = load_of(opened, data)

    from fmnist.cli.tables import show_score
    from fmnist.scoring.evaluate import evaluate as score_run

    score = score_run(opened, loaded.test if split == "test" else loaded.val)
    if as_json:
        print_json(score.to_json())
    else:
        show_score(score)


def verify(runs: RunFolders, data: Folder = None, as_json: Json = False) -> None:
    """Check that runs reproduce their scores.

    It scores the recorded weights again. It also lists what has changed since: code, data,
    recipe and environment.
    """
    opened = open_finished(runs)

    from fmnist.scoring.verify import verify as verify_run

    results = []
    for run in opened:
        results.append(verify_run(run, load_of(run, data)))
        if not as_json:
            show_verification(results[-1])
    if as_json:
        print_json([result.to_json() for result in results])
    if failed := [result.run for result in results if not result.passed]:
        raise FmnistError(f"the recorded scores were not reproduced: {', '.join(failed)}")


def parse_group(text: str) -> tuple[str, list["Run"]]:
    """The name, which may be empty, and the runs of `RUN`, `RUN,RUN` or `NAME=RUN,RUN`.

    A folder whose own name has a comma or `=` in it is a run.
    """
    from fmnist.runs.run import find_run

    if os.path.lexists(text) or os.path.lexists(Path("runs") / text):
        return "", [find_run(text)]
    name, _, members = text.rpartition("=")
    return name, [find_run(member) for member in members.split(",")]


def open_group(text: str, split: str) -> "Subject":
    """The runs that `parse_group` finds, with their answers on a split."""
    from fmnist.scoring.compare import open_subject

    name, runs = parse_group(text)
    return open_subject(runs, split, name)


def compare(
    subjects: Subjects, split: ScoredSplit = "val", wide: Wide = False, as_json: Json = False
) -> None:
    """Compare runs on the same images.

    It says which is better, by how much, and whether chance could explain the difference. It uses
    the recorded answers and scores nothing anew.
    """
    import dataclasses

    from fmnist.scoring.compare import compare as compare_all

    check_split(split)
    groups = [open_group(text, split) for text in subjects]
    pairs = compare_all(groups)
    if as_json:
        print_json(
            {
                "split": split,
                "n": len(groups[0].labels),
                "sentence": " ".join(map(str, pairs)),
                "subjects": [group.describe() for group in groups],
                "pairs": [dataclasses.asdict(pair) for pair in pairs],
            }
        )
    else:
        show_comparison(groups, pairs, split, wide)


def parse_images(text: str | None) -> list[int]:
    """`12,345` as indices of images. Raises UsageError."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise UsageError(f"--images: expected whole numbers such as 12,345, received {text!r}")
    return [int(part) for part in parts]


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN", help="Run folders, names of runs, or groups of runs: NAME=RUN,RUN,RUN."
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="val|test",
            help="Split to report; it must have been scored [default: val, or test for a run "
            "trained on all images].",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="N,N,N",
            help="Show which regions of these images mattered to the model; the first image is 0.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="HTML file to write [default: reports/RUN.html]."
        ),
    ] = None,
    data: Folder = None,
    as_json: Json = False,
) -> None:
    """Write an HTML report on one or more runs.

    Several runs or groups are compared. The report is a single file, plots and pictures included.
    """
    if split is not None:
        check_split(split)
    indices = parse_images(images)
    opened = [run for text in runs for run in parse_group(text)[1]]

    from fmnist.reports.report import choose_split, write_report

    split = choose_split(opened, split)
    loaded = load_of(opened[0], data)
    groups = [open_group(text, split) for text in runs]
    written = write_report(groups, split, loaded, out, indices)
    if as_json:
        print_json(written)
    else:
        print(f"report: {written['report']}")
