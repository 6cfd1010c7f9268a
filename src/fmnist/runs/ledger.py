"""The ledger, beside the run folders: one line for each scoring of a test split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmnist.files import append_line, read_lines


class Ledger:
    """`ledger.jsonl` in a folder of runs. Each call reads it again, since all runs write it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.jsonl"

    def enter(self, values: Mapping[str, Any]) -> None:
        """Append a line."""
        append_line(self.path, values)

    def lines(self) -> list[dict[str, Any]]:
        """All lines, oldest first; none where no test split was scored."""
        return read_lines(self.path)

    def names(self, run: str, weights: str | None) -> bool:
        """Whether a line is of this run, by its name, or of these weights, by their SHA-256."""
        return any(
            line.get("run") == run or (weights and line.get("weights") == weights)
            for line in self.lines()
        )
