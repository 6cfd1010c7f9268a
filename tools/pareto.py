"""Accuracy against size and against the cost of training: every record and what is published.

    python tools/pareto.py --out records/pareto.png

Reads `records/*/results.jsonl` and `recipe.json`, prints the table and draws it. The cost is that
of convolutions and matrix products alone, in floating-point operations (a product and a sum are
two, backward is twice forward): 3 × a forward pass × images × epochs; a teacher's is not in it.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from leaderboard import operations

from fmnist.runs.run import Run

RECORDS = Path(__file__).parents[1] / "records"


class Point(NamedTuple):
    """A result: parameters, floating-point operations of training, test accuracy in percent."""

    name: str
    parameters: float
    operations: float | None
    accuracy: float
    spread: float = 0.0
    note: str = ""  # why it does not compare with the others

    @property
    def label(self) -> str:
        return f"{self.name} ({self.note})" if self.note else self.name


# Accuracy and size as published; operations, where the epochs are told, by arithmetic from the
# architecture. Sources, in order: its author; SAM, ICLR 2021, table 5; Liang-yc/fn_playground;
# hysts/pytorch_image_classification; zalandoresearch/fashion-mnist issues 10 and 153.
PUBLISHED = [
    Point("reference CNN", 57_288_202, None, 93.47),
    Point("WRN-28-10, cutout, SAM", 36.5e6, None, 96.39),
    Point("WRN-40-4, 1000 epochs", 9e6, 1000 * 0.36e15, 96.59),
    Point("ResNet-20, cutout", 0.27e6, 200 * 60_000 * 3 * 2 * 31e6, 95.51),
    Point("DenseNet-BC", 0.768e6, None, 95.4, note="old data"),
    Point("DenseNet-BC", 0.174e6, None, 93.9, note="claim"),
]
LEGEND = (
    "Dashed: the front. No result on it has another at its left that is as accurate. "
    "It leaves out “old data”, scored on the release\nbefore 31 August 2017, whose copies of test "
    "images in train make it read about 0.4 points too high, and “claim”, told without code or log."
)


def recorded(folder: Path) -> Point:
    """A record as a point."""
    text = (folder / "results.jsonl").read_text(encoding="utf-8")
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    run = Run(folder)
    accuracy = [100 * line["accuracy"] for line in lines]
    return Point(
        run.recipe.name,
        lines[0]["parameters"],
        operations(run)[1],
        statistics.mean(accuracy),
        statistics.stdev(accuracy) if len(accuracy) > 1 else 0.0,
    )


def records() -> list[Point]:
    """The shipped recipes' results; of one that was recorded on several machines the last."""
    found = [recorded(path.parent) for path in sorted(RECORDS.glob("*/results.jsonl"))]
    return [*{p.name: p for p in found}.values()]


def front(points: list[Point], column: int) -> list[Point]:
    """Those that no other result of the same or less cost equals, the cheapest first."""
    best, found = 0.0, []
    shown = [p for p in points if p[column] and not p.note]
    for p in sorted(shown, key=lambda p: (p[column], -p.accuracy)):
        if p.accuracy > best:
            found.append(p)
            best = p.accuracy
    return found


def ahead(point: Point) -> list[Point]:
    """Published results of fewer parameters and higher accuracy that compare with a point."""
    return [
        p
        for p in PUBLISHED
        if not p.note and p.parameters < point.parameters and p.accuracy > point.accuracy
    ]


def draw(ours: list[Point], path: Path) -> None:
    """Two panels: against parameters and against operations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 5), sharey=True, layout="constrained")
    titles = "parameters", "floating-point operations of training"
    for panel, title, column in zip(panels, titles, (1, 2), strict=True):
        best = front(ours + PUBLISHED, column)
        costs, accuracies = [p[column] for p in best], [p.accuracy for p in best]
        panel.step(costs, accuracies, "--", where="post", color="grey", linewidth=1, zorder=0)
        for points, style, label in (
            (ours, "o", "fmnist (mean and standard deviation over seeds)"),
            (PUBLISHED, "s", "published"),
        ):
            shown = [p for p in points if p[column]]
            panel.errorbar(
                [p[column] for p in shown],
                [p.accuracy for p in shown],
                [p.spread for p in shown],
                fmt=style,
                capsize=3,
                label=label,
            )
            for p in shown:
                # Ours above their points, the others below, and to the side where there is room.
                crowded = p.name in ("quick", "ResNet-20, cutout")
                side = -1 if crowded or p[column] > (3e7 if column == 1 else 1e16) else 1
                panel.annotate(
                    p.label,
                    (p[column], p.accuracy),
                    textcoords="offset points",
                    fontsize=8,
                    xytext=(7 * side, 5 if style == "o" else -11),
                    ha="left" if side > 0 else "right",
                    fontweight="bold" if style == "o" else "normal",
                )
        panel.set(xscale="log", xlabel=title)
        panel.margins(x=0.25, y=0.1)
        panel.grid(which="major", alpha=0.3)
    panels[0].set_ylabel("test accuracy, %")
    panels[1].legend(loc="lower right", fontsize=8)
    figure.supxlabel(LEGEND, fontsize=8, x=0.01, ha="left")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="picture to write, .png or .svg")
    asked = parser.parse_args()
    ours = records()
    print(f"{'':<28}{'parameters':>12}{'PFLOP':>9}{'test %':>8}{'±':>6}")
    for p in sorted(ours + PUBLISHED, key=lambda p: p.accuracy):
        cost = f"{p.operations / 1e15:9.2f}" if p.operations else f"{'':9}"
        print(f"{p.label:<28}{p.parameters:>12,.0f}{cost}{p.accuracy:>8.2f}{p.spread:>6.2f}")
    if asked.out:
        draw(ours, asked.out)


if __name__ == "__main__":
    main()
