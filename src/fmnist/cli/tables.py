"""Tables and scores as the commands print them for people."""

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO

from fmnist.errors import printable
from fmnist.recipes.text import VIEWS

if TYPE_CHECKING:
    from rich.table import Table

    from fmnist.scoring.figures import Score


# The least width of a table's first column and of a column of text, from 80 columns on and below.
NAME_WIDTHS, TEXT_WIDTHS = (21, 14), (20, 18)
GAP = 2  # blanks between columns
UNLIMITED = 1_000_000


def table(
    columns: list[str],
    rows: list[list[str]],
    left: int = 1,
    folds: bool = False,
    optional: Sequence[str] = (),
    wide: bool | None = None,
) -> None:
    """Print the table that `drawn_table` makes; `wide` is a command's `--wide`."""
    hint = "" if wide is None else "; --wide shows them"
    width = UNLIMITED if wide else None
    print_table(drawn_table(columns, rows, left, folds, optional, width, hint))


def print_table(drawn: "Table") -> None:
    """Print a table that was drawn for the terminal."""
    from rich.console import Console

    Console(highlight=False, markup=False, width=UNLIMITED).print(drawn)


def terminal_width(stream: TextIO | None = None) -> int:
    """The columns of the terminal that a stream, stdout by default, is; no limit for another."""
    terminal = (stream or sys.stdout).isatty()
    return shutil.get_terminal_size().columns if terminal else UNLIMITED


def paragraph(text: str) -> None:
    """Print a text whose words no terminal breaks."""
    width = terminal_width()
    print(textwrap.fill(printable(text), width, break_long_words=False, break_on_hyphens=False))


def drawn_table(
    columns: list[str],
    rows: list[list[str]],
    left: int = 1,
    folds: bool = False,
    optional: Sequence[str] = (),
    width: int | None = None,
    hint: str = "",
) -> "Table":
    """A table whose first `left` columns are aligned left and the others right.

    Only names in the first column are broken into lines, and with `folds` the text in the last: no
    number ever is. Where a table is wider than `width` (the terminal's), the `optional` columns are
    left out, the first of them first. A line below names them; `hint` is its end.
    """
    from rich.table import Table
    from rich.text import Text

    width = width or terminal_width()
    cells = [[printable(cell) for cell in row] for row in [columns, *rows]]
    left_out = []
    for name in optional:
        if sum(_least_widths(cells, folds, width)) - GAP <= width:
            break
        place = cells[0].index(name)
        cells = [row[:place] + row[place + 1 :] for row in cells]
        left -= place < left
        left_out.append(name)
    widths = _widths(cells, folds, width)
    drawn = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    if left_out:
        drawn.caption = f"left out at {width} columns: {', '.join(left_out)}{hint}"
    for place, column in enumerate(cells[0]):
        justify: Literal["left", "right"] = (
            "left" if place < left or place in _flexible(cells, folds) else "right"
        )
        drawn.add_column(
            column, justify=justify, overflow="fold", width=widths[place] - GAP, no_wrap=False
        )
    for row in cells[1:]:
        # Text, since a plain string could hold rich's markup.
        drawn.add_row(*(Text(_broken(c, w - GAP)) for c, w in zip(row, widths, strict=True)))
    return drawn


def _flexible(cells: list[list[str]], folds: bool) -> set[int]:
    """Which columns may be broken into lines."""
    return {0, len(cells[0]) - 1} if folds else {0}


def _full_widths(cells: list[list[str]]) -> list[int]:
    """The characters of each column with the gap after it, of rows with the headings first."""
    return [max(map(len, column)) + GAP for column in zip(*cells, strict=True)]


def _least_widths(cells: list[list[str]], folds: bool, width: int) -> list[int]:
    """The same where columns that may be broken are as narrow as they may be."""
    widths = _full_widths(cells)
    for place in _flexible(cells, folds):
        least = (TEXT_WIDTHS if place else NAME_WIDTHS)[width < 80]
        widths[place] = min(widths[place], least + GAP)
    return widths


def _widths(cells: list[list[str]], folds: bool, width: int) -> list[int]:
    """The same where columns that may be broken share what a terminal of `width` has left."""
    widths, full = _least_widths(cells, folds, width), _full_widths(cells)
    for place in sorted(_flexible(cells, folds)):
        room = width + GAP - sum(widths)
        widths[place] = min(full[place], widths[place] + max(room, 0))
    return widths


def _broken(text: str, width: int) -> str:
    """Lines of at most `width` characters where that can be, broken within long words only."""
    lines = [""]
    for word in re.findall(r"[^ ]* ?", text):
        long = len(word.rstrip()) > width
        for piece in re.findall(r"[^,=/_-]*[,=/_-]?", word) if long else [word]:
            if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def show_score(score: "Score") -> None:
    """Per-class figures, confusion matrix, calibration and, last, the accuracy."""
    table(
        ["class", "precision", "recall", "F1", "n"],
        [
            [r["class"], *(f"{r[k]:.2%}" for k in ("precision", "recall", "f1")), f"{r['n']:,}"]
            for r in score.per_class
        ],
    )
    show_confusion([r["class"] for r in score.per_class], score.confusion)
    error = score.expected_calibration_error
    print()
    paragraph(
        f"loss {score.loss:.4f}, expected calibration error {error:.2%}, "
        f"{score.images_per_second:,.0f} images/s ({VIEWS.get(score.views, score.views)})"
    )
    paragraph(f"{'' if score.split == 'test' else 'VAL '}ACCURACY: {score.headline()}")


def show_confusion(names: list[str], confusion: list[list[int]]) -> None:
    """The matrix, or where it is wider than the terminal the most frequent mistakes."""
    columns = ["", *(str(i) for i in range(len(names)))]
    rows = [
        [f"{i} {name}", *(str(v) if v else "·" for v in row)]
        for i, (name, row) in enumerate(zip(names, confusion, strict=True))
    ]
    width = terminal_width()
    if sum(_least_widths([columns, *rows], False, width)) - GAP <= width:
        print()
        paragraph("confusion matrix: rows are true classes, columns predicted ones, in one order")
        table(columns, rows)
        return
    pairs = [
        (n, names[i], names[j])
        for i, row in enumerate(confusion)
        for j, n in enumerate(row)
        if n and i != j
    ]
    pairs.sort(key=lambda pair: -pair[0])
    print()
    paragraph(
        f"most frequent mistakes (the confusion matrix is wider than {width} columns; --json "
        "has it):"
    )
    table(
        ["class", "images", "taken for"], [[a, f"{n:,}", b] for n, a, b in pairs[:10]], folds=True
    )


def short_score(score: dict[str, Any] | None, usual: int | None = None) -> str:
    """`94.02±0.47 n=10k`: accuracy in %, half the width of its 95% interval, images scored.

    The `usual` number of images is left out.
    """
    from fmnist.scoring.figures import read_score

    if score is None:
        return "–"
    low, high = read_score(score).interval
    n = f"{score['n'] / 1000:g}k" if score["n"] % 1000 == 0 else f"{score['n']:,}"
    images = "" if score["n"] == usual else f" n={n}"
    return f"{100 * score['accuracy']:.2f}±{50 * (high - low):.2f}{images}"
