"""Compares runs: which is better, by how much, and whether that is more than chance.

All were scored on the same images, so they are compared image by image. A subject is a run or a
group of runs, such as one recipe's seeds. No model runs: the logits are those that training (val)
or `fmnist evaluate` (val, test) saved in the run folders.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist.errors import UsageError
from fmnist.runs.run import Run, find_run
from fmnist.scoring.figures import probabilities, wilson_interval

MOST_DIFFERENT = 20  # images that are named
CHANCE = 0.05  # below this p a difference is called more than chance


@dataclass(frozen=True)
class Subject:
    """A run or a group of runs that is compared as one.

    logits: float32 (runs, n, classes); labels: (n,).
    """

    name: str
    runs: tuple[Run, ...]
    logits: NDArray[Any]
    labels: NDArray[Any]
    split: str = "val"

    @cached_property
    def right(self) -> NDArray[np.float64]:
        """The share of its runs that are right, for each image: (n,)."""
        return np.asarray(self.each_right.mean(axis=0))

    @cached_property
    def each_right(self) -> NDArray[np.float64]:
        """1 where a run is right on an image, else 0: (runs, n)."""
        return np.asarray(self.logits.argmax(axis=2) == self.labels, np.float64)

    @cached_property
    def chance(self) -> NDArray[np.float64]:
        """The mean probability that its runs give each class: (n, classes)."""
        return np.asarray(probabilities(self.logits).mean(axis=0))

    def describe(self) -> dict[str, Any]:
        """Accuracy and cost; for several runs their means and the accuracies' standard deviation.

        `latency`: milliseconds an image when the runs were scored, in batches, all views of the
        recipe included, on the machine that scored; None where no speed was recorded.
        """
        accuracies = self.each_right.mean(axis=1)
        n = len(self.labels)
        recipe, env = self.runs[0].recipe, self.runs[0].env
        shape = tuple(env["shape"])
        seconds = [lines[-1]["seconds"] for run in self.runs if (lines := run.metrics())]
        scores = [run.scores.get(self.split, {}) for run in self.runs]
        speeds = [s["images_per_second"] for s in scores if s.get("images_per_second", 0) > 0]
        return {
            "name": self.name,
            "runs": [run.name for run in self.runs],
            "accuracy": float(accuracies.mean()),
            "interval": wilson_interval(round(accuracies.mean() * n), n),
            "deviation": float(accuracies.std(ddof=1)) if len(accuracies) > 1 else None,
            "parameters": env["parameters"],
            "operations": recipe.options.operations(shape, len(env["classes"])),
            "seconds": float(np.mean(seconds)) if seconds else None,
            "latency": float(np.mean([1000 / s for s in speeds])) if speeds else None,
        }


@dataclass(frozen=True)
class Pair:
    """How two subjects differ; `difference` is the second's accuracy minus the first's.

    The interval and `p_corrected` are corrected for the number of comparisons (Bonferroni), so that
    they agree: all intervals together hold the truth in 95 % of cases.
    """

    first: str
    second: str
    difference: float
    interval: tuple[float, float]
    p: float
    p_corrected: float
    method: str
    only_first: float
    only_second: float
    per_class: list[dict[str, Any]]
    images: list[dict[str, Any]]
    comparisons: int = 1

    def __str__(self) -> str:
        """Which is better, by how much, and whether that is more than chance."""
        better, worse, sign = self.second, self.first, 1
        if self.difference < 0:
            better, worse, sign = self.first, self.second, -1
        low, high = sorted(100 * sign * bound for bound in self.interval)
        by = f"{100 * abs(self.difference):.2f} points (95% CI {low:.2f} to {high:.2f}"
        note = f", both {correction([self])}" if self.comparisons > 1 else ""
        p = f"p {p_in_words(self)}{note})"
        if self.p_corrected < CHANCE:
            return f"{better} is better than {worse} by {by}, {p}, which is more than chance."
        if self.difference:
            return f"{better} is ahead of {worse} by {by}, {p}, which may be chance."
        return f"{better} and {worse} are right equally often ({p}."


def open_subject(named: Sequence[str | os.PathLike[str]], split: str, name: str = "") -> Subject:
    """A subject of runs that were scored on a split: each a `Run`, its folder or its name.

    Raises RunError, UsageError.
    """
    runs = [find_run(run) for run in named]
    _require_once([str(run.path) for run in runs])
    logits, labels = zip(*(run.load_logits(split) for run in runs), strict=True)
    for run, other in zip(runs, labels, strict=True):
        run.require_data_of(runs[0])
        if not np.array_equal(labels[0], other):
            raise UsageError(f"{run.path}: expected the labels of {runs[0].path}, received others")
    if not name:
        name = runs[0].name if len(runs) == 1 else f"{runs[0].name} and {len(runs) - 1} more"
    return Subject(name, tuple(runs), np.stack(logits), labels[0], split)


def compare(subjects: Sequence[Any] | Mapping[str, Any], split: str = "val") -> list[Pair]:
    """Compare runs, each further one with the first, image by image on a split.

    Args:
        subjects: two or more. Each is a run (a `Run`, its folder or its name) or a sequence of
            runs, such as a recipe's seeds, which is compared as one. A mapping names them.
        split: "val" or "test", on which each run must have been scored.

    Returns a pair for each further one, in which "first" and "second" are the two: `str(pair)` says
    in words which is better; `difference`, `interval`, `p_corrected`, `per_class` and `images` in
    numbers. With several pairs the interval and p are corrected (Bonferroni).

    Raises UsageError for fewer than two, for equal ones, and for runs on different images, RunError
    for a run that is missing or was not scored on the split.
    """
    opened = [subject for subject in subjects if isinstance(subject, Subject)]
    if len(opened) < len(subjects):
        opened = [open_subject(runs, split, name) for name, runs in named_runs(subjects)]
    if len(opened) < 2:
        raise UsageError(f"compare: expected at least two runs or groups, received {len(opened)}")
    _require_once([", ".join(sorted(str(r.path.resolve()) for r in s.runs)) for s in opened])
    first = opened[0]
    for other in opened[1:]:
        other.runs[0].require_data_of(first.runs[0])
        if not np.array_equal(other.labels, first.labels):
            raise UsageError(f"compare: {first.name} and {other.name} are on different images")
    return [_pair(first, other, len(opened) - 1) for other in opened[1:]]


def named_runs(subjects: Sequence[Any] | Mapping[str, Any]) -> list[tuple[str, list[Run]]]:
    """The name, which may be empty, and the runs of each of what `compare` takes."""
    named = subjects.items() if isinstance(subjects, Mapping) else [("", s) for s in subjects]
    groups = [(n, [s] if isinstance(s, str | os.PathLike) else s) for n, s in named]
    return [(name, [find_run(run) for run in runs]) for name, runs in groups]


def _require_once(names: Sequence[str]) -> None:
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UsageError(f"compare: expected different runs, received {twice[0]} twice")


def _pair(first: Subject, second: Subject, count: int) -> Pair:
    """Two subjects' difference, corrected for a number of comparisons."""
    level = 1 - CHANCE / count
    a, b = first.right, second.right
    only_first, only_second = float((a * (1 - b)).sum()), float((b * (1 - a)).sum())
    if len(first.runs) == len(second.runs) == 1:
        method = "exact McNemar test; interval by Newcombe's method 10"
        p = mcnemar(round(only_first), round(only_second))
        both = int((a * b).sum())
        interval = newcombe(both, round(only_first), round(only_second), len(a), level)
    else:
        method = "t test over images and seeds (Welch, Satterthwaite)"
        interval, p = over_images_and_seeds(first.each_right, second.each_right, level)
    classes = first.runs[0].env["classes"]
    return Pair(
        first.name,
        second.name,
        float(b.mean() - a.mean()),
        interval,
        p,
        min(1.0, count * p),
        method,
        only_first,
        only_second,
        _per_class(a, b, first.labels, classes),
        _most_different(first, second, classes),
        count,
    )


def _per_class(
    a: NDArray[Any], b: NDArray[Any], labels: NDArray[Any], classes: list[str]
) -> list[dict[str, Any]]:
    rows = []
    for i, name in enumerate(classes):
        here = labels == i
        if here.any():
            rows.append(
                {
                    "class": name,
                    "n": int(here.sum()),
                    "first": float(a[here].mean()),
                    "second": float(b[here].mean()),
                    "only_first": float((a * (1 - b))[here].sum()),
                    "only_second": float((b * (1 - a))[here].sum()),
                }
            )
    return rows


def _most_different(first: Subject, second: Subject, classes: list[str]) -> list[dict[str, Any]]:
    """Images for whose label the probabilities are furthest apart."""
    every = np.arange(len(first.labels))
    chances = first.chance, second.chance
    gap = chances[1][every, first.labels] - chances[0][every, first.labels]
    rows = []
    for i in np.argsort(-np.abs(gap), kind="stable")[:MOST_DIFFERENT]:
        said = [
            {
                "class": classes[int(chance[i].argmax())],
                "probability": float(chance[i].max()),
                "of_label": float(chance[i, first.labels[i]]),
            }
            for chance in chances
        ]
        rows.append(
            {
                "image": int(i),
                "label": classes[int(first.labels[i])],
                "first": said[0],
                "second": said[1],
            }
        )
    return rows


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p of McNemar's test: a fair coin over the images on which they differ."""
    from scipy.stats import binomtest

    differ = only_first + only_second
    return float(binomtest(only_first, differ).pvalue) if differ else 1.0


def newcombe(
    both: int, only_first: int, only_second: int, n: int, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the second's share minus the first's, paired (Newcombe 1998, method 10)."""
    a, b, c = both, only_second, only_first
    d = n - a - b - c
    second, first = (a + b) / n, (a + c) / n
    (low2, high2), (low1, high1) = (wilson_interval(k, n, level) for k in (a + b, a + c))
    spread = math.sqrt((a + b) * (c + d) * (a + c) * (b + d))
    excess = float(a * d - b * c)
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    phi = excess / spread if spread else 0.0

    def length(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    difference = second - first
    return (
        difference - length(second - low2, high1 - first),
        difference + length(high2 - second, first - low1),
    )


def over_images_and_seeds(
    first: NDArray[np.float64], second: NDArray[np.float64], level: float = 0.95
) -> tuple[tuple[float, float], float]:
    """Interval and two-sided p of mean(second) - mean(first), of (runs, n) zeros and ones.

    The variance is the sum of that of the mean over images, of each image's difference of the two
    groups, and that of each group's mean over its runs; degrees of freedom by Satterthwaite (1946).
    A group of one run adds no variance for its seed, since one run cannot show it.
    """
    from scipy.stats import t

    gaps = second.mean(axis=0) - first.mean(axis=0)
    parts = [(float(gaps.var(ddof=1)) / len(gaps), len(gaps) - 1)] if len(gaps) > 1 else []
    for group in (first, second):
        if len(group) > 1:
            means = group.mean(axis=1)
            parts.append((float(means.var(ddof=1)) / len(group), len(group) - 1))
    variance, difference = sum(v for v, _ in parts), float(gaps.mean())
    if not variance:
        return (difference, difference), 1.0 if difference == 0 else 0.0
    freedom = variance**2 / sum(v * v / f for v, f in parts)
    half = float(t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance)
    p = 2 * float(t.sf(abs(difference) / math.sqrt(variance), freedom))
    return (difference - half, difference + half), p


def correction(pairs: Sequence[Pair]) -> str:
    """What the figures of pairs are corrected for; empty for one pair."""
    count = pairs[0].comparisons
    return f"corrected for {count} comparisons (Bonferroni)" if count > 1 else ""


def p_in_words(pair: Pair) -> str:
    """`< 0.0001` or `= 0.012`, corrected."""
    return "< 0.0001" if pair.p_corrected < 1e-4 else f"= {pair.p_corrected:.2g}"
