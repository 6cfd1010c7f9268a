"""Tables and scores as the commands print them for people."""

import sys
from typing import TYPE_CHECKING, Any

from fmnist.errors import printable
from fmnist.recipes.text import VIEWS

if TYPE_CHECKING:
    from rich.table import Table

    from fmnist.scoring.figures import Score


def table(columns: list[str], rows: list[list[str]], left: int = 1, folds: bool = False) -> None:
    """Print the table that `drawn_table` makes."""
    print_table(drawn_table(columns, rows, left, folds))


def print_table(drawn: "Table") -> None:
    """Print a table."""
    from rich.console import Console

    # If the output is no terminal, no line is cut or broken.
    width = None if sys.stdout.isatty() else 500
    Console(highlight=False, markup=False, width=width).print(drawn)


def drawn_table(
    columns: list[str], rows: list[list[str]], left: int = 1, folds: bool = False
) -> "Table":
    """A table whose first `left` columns are aligned left and the others right.

    With `folds` the last column is text: aligned left, and broken into lines if it is too long.
    """
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        # In a narrow terminal only a column of text is broken into lines, never a number.
        text = i == (len(columns) - 1 if folds else 0)
        drawn.add_column(
            printable(column),
            justify="left" if i < left or text else "right",
            overflow="fold",
            no_wrap=not text,
        )
    for row in rows:
        drawn.add_row(
            *(Text(printable(cell)) for cell in row)
        )  # a plain string could hold rich's markup
    return drawn


def show_score(score: "Score") -> None:
    """Per-class figures, confusion matrix, calibration and, last, the accuracy."""
    table(
        ["class", "precision", "recall", "F1", "n"],
        [
            [r["class"], *(f"{r[k]:.2%}" for k in ("precision", "recall", "f1")), f"{r['n']:,}"]
            for r in score.per_class
        ],
    )
    print("\nconfusion matrix: rows are true classes, columns are predicted ones in the same order")
    names = [r["class"] for r in score.per_class]
    table(
        ["", *(str(i) for i in range(len(names)))],
        [
            [f"{i} {name}", *(str(v) if v else "·" for v in row)]
            for i, (name, row) in enumerate(zip(names, score.confusion, strict=True))
        ],
    )
    error = score.expected_calibration_error
    print(
        f"\nloss {score.loss:.4f}, expected calibration error {error:.2%}, "
        f"{score.images_per_second:,.0f} images/s ({VIEWS.get(score.views, score.views)})"
    )
    print(f"{'' if score.split == 'test' else 'VAL '}ACCURACY: {score.headline()}")


def short_score(score: dict[str, Any] | None) -> str:
    """`94.02±0.47 n=10k`: accuracy in %, half the width of its 95% interval, images scored."""
    from fmnist.scoring.figures import read_score

    if score is None:
        return "–"
    low, high = read_score(score).interval
    n = f"{score['n'] / 1000:g}k" if score["n"] % 1000 == 0 else f"{score['n']:,}"
    return f"{100 * score['accuracy']:.2f}±{50 * (high - low):.2f} n={n}"
