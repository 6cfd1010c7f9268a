"""Plots as SVG to stand in a page: they take its font and its colours, light or dark.

Matplotlib writes colours as numbers. The ones used here stand for nothing else, and each becomes
one of the page's CSS variables, so that a plot follows the page's scheme.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

from fmnist.errors import printable

INK, MUTED, LINE, ACCENT, WARM, PAPER = (f"#0{i}0{i}0{i}" for i in range(1, 7))
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    WARM: "var(--warm)",
    PAPER: "var(--paper)",
}
ROLES = ("behind", "complete", "own", "best")  # of a sweep's trials, the last drawn above all
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "xtick.minor.size": 0,
    "lines.solid_capstyle": "round",
}


def learning_curves(epochs: Sequence[dict[str, Any]], apart: bool = False) -> tuple[str, str]:
    """Loss, and accuracy, against epochs, with the seconds above; each an `<svg>`.

    `epochs` are lines of `Run.metrics()`, those of val where they have them. `apart`: the losses of
    train and val are not the same quantity, and each gets axes of its own.
    """
    return (
        _curve(epochs, ("loss", "val_loss"), "loss", apart),
        _curve(epochs, ("accuracy", "val_accuracy"), "accuracy"),
    )


def _curve(
    epochs: Sequence[dict[str, Any]], keys: tuple[str, str], name: str, apart: bool = False
) -> str:
    lines = [
        (colour, label, points)
        for key, colour, label in zip(keys, (MUTED, ACCENT), ("train", "val"), strict=True)
        if (points := [(line["epoch"], line[key]) for line in epochs if key in line])
    ]
    apart = apart and len(lines) > 1

    def draw(figure: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        every = figure.subplots(len(lines) if apart else 1, 1, sharex=True, squeeze=False)[:, 0]
        for i, (colour, label, points) in enumerate(lines):
            axes = every[i if apart else 0]
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3.5)
            if apart:
                axes.set_ylabel(label)
        every[-1].set_xlabel("epochs")
        every[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if name == "accuracy":
            every[0].yaxis.set_major_formatter(_percent)
        figure.align_ylabels()
        # All epochs take about as long, so that one axis serves both.
        each = epochs[-1]["seconds"] / epochs[-1]["epoch"]
        if each > 0:
            above = every[0].secondary_xaxis(
                "top", functions=(lambda e: e * each, lambda s: s / each)
            )
            above.set_xlabel("seconds of training")
            above.xaxis.set_major_formatter("{x:g}")
            above.spines["top"].set_visible(False)

    return _svg(draw, name, height=3.9 if apart else 3.1)


def reliability(bins: Sequence[dict[str, Any]]) -> str:
    """Accuracy against confidence by bin, and how many images each holds, as an `<svg>`.

    `bins` are those of `scoring.figures.calibration_bins`. A line marks each one's mean confidence,
    where its bar would end if the two agreed.
    """

    def draw(figure: Any) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        filled = [each for each in bins if each["n"]]
        middles = [(each["low"] + each["high"]) / 2 for each in filled]
        width = 0.88 / len(bins)
        above.bar(middles, [each["accuracy"] for each in filled], width, color=ACCENT, alpha=0.6)
        for middle, share in zip(middles, (each["confidence"] for each in filled), strict=True):
            ends = middle - width / 2, middle + width / 2
            above.plot(ends, (share, share), color=WARM, linewidth=2.2, solid_capstyle="butt")
        above.set_ylim(0, 1)
        above.set_ylabel("accuracy")
        below.bar(middles, [each["n"] for each in filled], width, color=MUTED)
        below.set_ylabel("images")
        below.set_xlabel("confidence")
        below.set_xlim(0, 1)
        below.xaxis.set_major_formatter(_percent)
        above.yaxis.set_major_formatter(_percent)
        figure.align_ylabels()

    return _svg(draw, "reliability", height=3.9)


def pareto(subjects: Sequence[dict[str, Any]], cost: str, label: str) -> str:
    """Accuracy with its interval against a cost, as an `<svg>`; nothing is better than the line.

    `subjects` are numbered from 1 in their order and have `accuracy`, `interval` and the `cost`;
    those without it, or of one that no run has, are left out.
    """

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        points = [
            (each[cost], each["accuracy"], each["interval"], number)
            for number, each in enumerate(subjects, 1)
            if 1e-3 < (each[cost] or 0) < 1e15
        ]
        front, best = list[tuple[float, float]](), -1.0
        for x, accuracy, _, _ in sorted(points, key=lambda point: (point[0], -point[1])):
            if accuracy > best:
                front.append((x, accuracy))
                best = accuracy
        axes.set_xscale("log")
        for x, accuracy, (low, high), number in points:
            colour = ACCENT if (x, accuracy) in front else MUTED
            axes.plot((x, x), (low, high), color=colour, linewidth=1.2)
            axes.plot(x, accuracy, "o", color=colour, markersize=13, markeredgecolor=PAPER)
            axes.annotate(
                str(number),
                (x, accuracy),
                ha="center",
                va="center_baseline",
                color=PAPER,
                fontsize=8,
                fontweight="bold",
            )
        axes.margins(0.18, 0.12)
        if front:  # from the cheapest run up to the best, and on to the edge
            (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
            xs, ys = zip((front[0][0], bottom), *front, (right, best), strict=True)
            dashes = (0, (3, 3))
            axes.step(xs, ys, where="post", color=ACCENT, linewidth=1, linestyle=dashes, zorder=1)
            axes.set(xlim=(left, right), ylim=(bottom, top))
        _few_ticks(axes.xaxis)
        axes.set_xlabel(label)
        axes.yaxis.set_major_formatter(_percent)

    return _svg(draw, cost)


def trial_curves(curves: Sequence[dict[str, Any]]) -> str:
    """A sweep's accuracies on val by epoch, as an `<svg>`.

    Each of `curves` has `points`, pairs of epoch and accuracy, and the `role` of its trial: "best",
    "own" (the recipe's own values), "complete", or "behind", which was stopped early or failed.
    """

    def draw(figure: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        for each in sorted(curves, key=lambda each: ROLES.index(each["role"])):
            colour, told = _look(each["role"])
            axes.plot(
                *zip(*each["points"], strict=True),
                color=colour,
                linewidth=1.8 if told else 1,
                linestyle=(0, (2, 2)) if each["role"] == "behind" else "-",
                marker="o",
                markersize=3.5 if told else 2,
            )
        axes.set_xlabel("epochs")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(_percent)

    return _svg(draw, "trials")


def trial_values(
    name: str, points: Sequence[dict[str, Any]], choices: Sequence[str] = (), log: bool = False
) -> str:
    """Accuracy on val against a field's values, as an `<svg>`; a dot is a trial.

    Each of `points` has `value`, `accuracy` and `role`, as for `trial_curves`. With `choices` each
    of these is a row, and accuracy runs to the right.
    """

    def draw(figure: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        for each in sorted(points, key=lambda each: ROLES.index(each["role"])):
            at = each["value"], each["accuracy"]
            if choices:
                at = each["accuracy"], choices.index(each["value"])
            colour, told = _look(each["role"])
            fill = PAPER if each["role"] == "behind" else colour
            axes.plot(*at, "o", color=colour, markerfacecolor=fill, markersize=8 if told else 6)
        if choices:
            axes.set_yticks(range(len(choices)), [printable(choice) for choice in choices])
            axes.set_ylim(len(choices) - 0.5, -0.5)
            axes.xaxis.set_major_locator(MaxNLocator(5))
        elif log:
            axes.set_xscale("log")
            _few_ticks(axes.xaxis)
        else:
            whole = all(isinstance(each["value"], int) for each in points)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole))
        (axes.xaxis if choices else axes.yaxis).set_major_formatter(_percent)
        axes.set_xlabel("accuracy on val" if choices else name)
        axes.margins(x=0.08)

    return _svg(draw, name, height=1.2 + 0.35 * len(choices) if choices else 3.1)


def _look(role: str) -> tuple[str, bool]:
    """A trial's colour, and whether it stands out."""
    colour = {"best": ACCENT, "own": WARM}.get(role, MUTED)
    return colour, colour != MUTED


def _percent(share: float, position: int) -> str:
    return f"{100 * share:.4g} %"


def _few_ticks(axis: Any) -> None:
    """A few round numbers of each power of ten, written out.

    Not matplotlib's logarithmic ones: below one power of ten these are spaced as on a linear axis.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axis.get_view_interval()
    span = high / low
    steps = (1, 1.5, 2, 3, 5, 7) if span < 6 else (1, 2, 5) if span < 60 else (1,)
    axis.set_major_locator(
        FixedLocator([s * 10.0**power for power in range(-4, 16) for s in steps])
    )
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _svg(draw: Any, name: str, height: float = 3.1) -> str:
    """What `draw` puts on a figure of 4.6 inches by `height`, as an `<svg>` for a page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(4.6, height), layout="constrained")
        figure.patch.set_visible(False)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]  # a page has its own declaration
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # names that another plot of the page has too
    for number, variable in VARIABLES.items():
        text = text.replace(number, variable)
    return text
