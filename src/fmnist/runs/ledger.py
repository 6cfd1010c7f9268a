"""The ledger, beside the run folders: one line for each scoring of a test split."""

import re
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from fmnist.files import append_line, read_lines, sha256

# What test was scored for: a score that something may be decided on, the check of one, and a
# converted file of the same weights. The first alone is what "test opened" counts.
SCORE, VERIFICATION, EXPORT = KINDS = ("score", "verification", "export")


class Ledger:
    """`ledger.jsonl` in a folder of runs. Each call reads it again, since all runs write it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.jsonl"

    def enter(self, values: Mapping[str, Any]) -> None:
        """Append a line."""
        append_line(self.path, values)

    def lines(self) -> list[dict[str, Any]]:
        """All lines, oldest first, each with its `kind`; none where no test split was scored."""
        following = pairwise([*read_lines(self.path), {}])
        return [{"kind": _kind(line, after)} | line for line, after in following]

    def names(self, run: str, weights: str | None) -> bool:
        """Whether a line is of this run, by its name, or of these weights, by their SHA-256."""
        return any(
            line.get("run") == run or (weights and line.get("weights") == weights)
            for line in self.lines()
        )

    def counts(self, run: str, weights: Path, scored: bool) -> dict[str, int]:
        """How many lines of each kind the weights in a file have, under any run's name.

        Scores of other runs count only where this `run` was scored too, which its folder
        (`scored`) or a line says: equal weights alone decided nothing about it.
        """
        lines = self.lines() if weights.exists() else []
        digest = sha256(weights) if lines else ""
        lines = [line for line in lines if line.get("weights") == digest]
        found = Counter(str(line["kind"]) for line in lines)
        own = scored or any(line.get("run") == run and line["kind"] == SCORE for line in lines)
        return {kind: found[kind] if own or kind != SCORE else 0 for kind in KINDS}


def _kind(line: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The kind of a line that has none, as older versions wrote it, by the one after it.

    An export had two lines, the run's own answers in one view before the file's, or one under a
    temporary folder's name. A verification's line was that of a score, and counts as one.
    """
    if line.get("form", "keras") != "keras" or re.fullmatch(r"\..*\.tmp", str(line.get("run"))):
        return EXPORT
    of_export = after.get("form", "keras") != "keras" and "kind" not in after
    same = line.get("weights") == after.get("weights")
    return EXPORT if of_export and same and line.get("views") == "one" else SCORE


def not_counted(counts: Mapping[str, int]) -> str:
    """`not counted: 1 verification and 2 scores of exported files`; empty where there is none."""
    names = (
        (VERIFICATION, "verification", "verifications"),
        (EXPORT, "score of an exported file", "scores of exported files"),
    )
    said = [f"{n:,} {many if n > 1 else one}" for kind, one, many in names if (n := counts[kind])]
    return f"not counted: {' and '.join(said)}" if said else ""
