"""What the commands print for people, from the same objects that `--json` prints."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fmnist.compare import Pair, Subject, sentence
from fmnist.errors import RunError, UsageError, printable
from fmnist.evaluation import Score
from fmnist.recipes import Recipe
from fmnist.runs import Run

if TYPE_CHECKING:
    from rich.table import Table

    from fmnist.exports import Export
    from fmnist.verify import Verification

VIEWS = {  # the more of them, the later
    "one": "one view",
    "flip": "mean over image and mirror image",
    "shift": "mean over image, mirror image and both shifted by a pixel, 10 views",
}


def table(columns: list[str], rows: list[list[str]], left: int = 1, folds: bool = False) -> None:
    """Print rows under their columns, see `drawn_table`."""
    _print(drawn_table(columns, rows, left, folds))


def _print(drawn: "Table") -> None:
    from rich.console import Console

    # Where the output is no terminal, no line is cut or broken.
    width = None if sys.stdout.isatty() else 500
    Console(highlight=False, markup=False, width=width).print(drawn)


def drawn_table(
    columns: list[str], rows: list[list[str]], left: int = 1, folds: bool = False
) -> "Table":
    """Rows under their columns, the first `left` of them aligned left, the others right.

    With `folds` the last column is text, on the left, and takes more lines where it must.
    """
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        # In a narrow terminal one column of text gives way, so that no number is broken.
        text = i == (len(columns) - 1 if folds else 0)
        drawn.add_column(
            column,
            justify="left" if i < left or text else "right",
            overflow="fold",
            no_wrap=not text,
        )
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))  # in text no markup is looked for
    return drawn


def plain(value: Any) -> str:
    """A recipe's value as `--set` takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(v.name if isinstance(v, Recipe) else str(v) for v in value) or "none"
    return str(value)


def settings(values: Mapping[str, Any]) -> list[str]:
    """Recipe fields and their values as words of a command: `--set`, `NAME=VALUE`, …"""
    return [word for name, value in values.items() for word in ("--set", f"{name}={plain(value)}")]


def short(value: Any) -> str:
    """A recipe's value for a table: as `plain` writes it, numbers to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else plain(value)


def share(score: dict[str, Any] | None) -> str:
    """`94.02% (n=10,000, 95% CI 93.54–94.47; test opened 1×)` of a recorded score, or a dash."""
    if score is None:
        return "–"
    return from_json(score).headline()


def from_json(score: dict[str, Any]) -> Score:
    """A score as `Score.to_json` gave it to score.json."""
    try:
        return Score(**score)
    except TypeError as error:
        raise RunError(f"score.json: expected a score of this version ({error})") from None


def show_score(score: Score) -> None:
    """Per-class figures, confusion matrix, calibration and, last, the accuracy."""
    table(
        ["class", "precision", "recall", "F1", "n"],
        [
            [
                r["class"],
                *(f"{r[k]:.2%}" for k in ("precision", "recall", "f1")),
                f"{r['n']:,}",
            ]
            for r in score.per_class
        ],
    )
    print("\nconfusion: rows are the true classes, columns the predicted ones, in the same order")
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


def show_export(made: "Export") -> None:
    """Where, how large, and what it scores beside the run itself."""
    low, high = made.interval
    softened = "" if made.format == "safetensors" else f"; temperature {made.temperature:.3f}"
    print(
        f"{made.folder}: {made.format}, {made.storage}, {made.size / 1e6:,.2f} MB"
        f"{f' in {len(made.parts)} parts' if len(made.parts) > 1 else ''}; {made.split} "
        f"{made.accuracy:.2%} (n={made.n:,}, 95% CI {100 * low:.2f}–{100 * high:.2f}), the run "
        f"{made.before:.2%}; {made.changed:,} answers changed, logits by up to "
        f"{made.largest_difference:.2g}{softened}"
    )


def show_audit(audit: dict[str, Any]) -> None:
    """The pairs of classes with most suspicious labels, duplicates by split, a line, the paths."""
    labels, duplicates = audit["labels"], audit["duplicates"]
    pairs = [pair for pair in labels["pairs"] if pair["suspicious"]]
    table(
        ["given → suggested", "suspicious", "estimated"],
        [
            [f"{p['given']} → {p['suggested']}", f"{p['suspicious']:,}", f"{p['estimated']:,.0f}"]
            for p in pairs[:10]
        ],
    )
    if len(pairs) > 10:
        print(f"and {len(pairs) - 10} more")
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
    print(
        f"AUDIT: {labels['suspicious']:,} of {labels['n']:,} labels suspicious, an estimated "
        f"{labels['estimated_share']:.1%} wrong; {duplicates['pairs']:,} pairs of "
        f"{duplicates['n']:,} images nearly the same, {duplicates['labels_differ']:,} with "
        "different labels"
    )


def show_comparison(subjects: Sequence[Subject], pairs: Sequence[Pair], split: str) -> None:
    """A sentence, then accuracy and cost side by side, then each pair by class and by image."""
    print(f"{sentence(subjects, pairs)}\n")
    rows = []
    for each in (subject.describe() for subject in subjects):
        low, high = each["interval"]
        seconds = each["seconds"]
        rows.append([
            each["name"], str(len(each["runs"])), f"{100 * each['accuracy']:.2f}",
            f"{100 * low:.2f}–{100 * high:.2f}",
            "–" if each["deviation"] is None else f"{100 * each['deviation']:.2f}",
            f"{each['parameters']:,}", f"{each['operations'] / 1e6:,.0f}",
            "–" if seconds is None else f"{seconds:,.0f}",
            "–" if each["latency"] is None else f"{each['latency']:.2f}",
        ])  # fmt: skip
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
                    r["class"], f"{r['n']:,}", f"{r['first']:.2%}", f"{r['second']:.2%}",
                    f"{r['only_first']:,.4g}", f"{r['only_second']:,.4g}",
                ]
                for r in pair.per_class
            ],
        )  # fmt: skip
        print("furthest apart, by the probability of the label:")
        table(
            ["image", "label", pair.first, pair.second],
            [
                [str(r["image"]), r["label"], *(
                    f"{r[k]['class']} {r[k]['probability']:.0%}" for k in ("first", "second")
                )]
                for r in pair.images[:5]
            ],
            left=4,
        )  # fmt: skip


def show_data(about: dict[str, Any]) -> None:
    """What `data.describe` found."""
    print(f"{about['name']} in {about['folder']}")
    for name, value in about["hashes"].items():
        print(f"  sha256 {value}  {name}")
    splits = about["splits"]
    names = list(next(iter(splits.values()))["per_class"])
    table(
        ["class", *splits],
        [[n, *(f"{split['per_class'][n]:,}" for split in splits.values())] for n in names]
        + [["all", *(f"{split['images']:,}" for split in splits.values())]],
    )
    print(
        f"pixels / 255 of train: mean {about['mean']:.4f}, "
        f"standard deviation {about['deviation']:.4f}"
    )
    print("exact duplicates: " + ", ".join(f"{k} {v:,}" for k, v in about["duplicates"].items()))
    print(f"validation index sha256 {about['val_index_hash']}")
    if "picture" in about:
        print(f"picture: {about['picture']}")


def show_recipe(recipe: Recipe) -> None:
    """Every field with its value, unit and meaning."""
    for field, value, unit, meaning in recipe.describe():
        print(f"{field:<20} {plain(value):<20} {meaning}" + (f" [{unit}]" if unit else ""))


def run_row(run: Run) -> dict[str, Any]:
    """A run in a line, also where its recipe has fields that this version does not know."""
    metrics, env = run.metrics(), run.env
    try:
        recipe = Recipe.from_json(run.recipe)
        name, changes = recipe.name, recipe.changes()
    except UsageError as error:
        given = run.recipe.get("name")
        if not isinstance(given, str):
            raise
        name = given
        changes = {"of_another_version": str(error)}
    return {
        "run": run.name,
        "recipe": name,
        "changes": changes,
        "data": env["data"].get("name"),
        "parameters": env["parameters"],
        "val": run.scores.get("val"),
        "test": run.scores.get("test"),
        "finished": run.finished,
        "seconds": metrics[-1]["seconds"] if metrics else 0.0,
        "device": env["device"],
        "times_opened": run.times_opened(),
    }


SORTED_BY = ("name", "val", "test", "parameters", "seconds")


def sort_rows(rows: list[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """Rows of `run_row` by name, size or seconds, or by accuracy: the highest first, none last."""
    if by not in SORTED_BY:
        raise UsageError(f"--sort: expected one of {', '.join(SORTED_BY)}, received {by!r}")
    if by in ("val", "test"):
        return sorted(rows, key=lambda r: -r[by]["accuracy"] if r[by] else 0.0)
    return sorted(rows, key=lambda r: r["run" if by == "name" else by])


def parse_range(text: str) -> tuple[float, float]:
    """`1000..20000` as two numbers, an end that is left out as infinity. Raises UsageError."""
    low, dots, high = text.replace(",", "").partition("..")
    if not dots or not all(end.isdecimal() or not end for end in (low, high)):
        raise UsageError(f"--parameters: expected MIN..MAX, as ..100000, received {text!r}")
    return float(low or 0), float(high or "inf")


def _short(score: dict[str, Any] | None) -> str:
    """`94.02±0.47 n=10k`: with the 95 % interval's half width, for a column of percentages."""
    if score is None:
        return "–"
    low, high = from_json(score).interval
    n = f"{score['n'] / 1000:g}k" if score["n"] % 1000 == 0 else f"{score['n']:,}"
    return f"{100 * score['accuracy']:.2f}±{50 * (high - low):.2f} n={n}"


def show_runs(rows: list[dict[str, Any]]) -> None:
    """A table of runs."""
    table(
        ["run", "parameters", "val %", "test %", "opened", "seconds", "recipe"],
        [
            [
                r["run"],
                f"{r['parameters']:,}",
                _short(r["val"]),
                _short(r["test"]),
                f"{r['times_opened']}×",
                f"{r['seconds']:,.0f}" if r["finished"] else "unfinished",
                " ".join([r["recipe"], *(f"{k}={short(v)}" for k, v in r["changes"].items())]),
            ]
            for r in rows
        ],
        folds=True,
    )


def show_run(run: Run) -> None:
    """A run's recipe, environment, learning curve and scores."""
    row, env = run_row(run), run.env
    members = env.get("members", [])
    state = f"trained in {row['seconds']:,.1f} s" if row["finished"] else "unfinished"
    state = f"{len(members)} members {state}" if members else state
    print(f"{run.path}: {row['recipe']}, {row['parameters']:,} parameters, {state}")
    engine = f"{env['backend']} {env['versions'].get(env['backend'], '')}"
    print(
        f"{env['precision']} on {env['device']}, {engine}, "
        f"{env['data']['name']} ({env['data']['n']:,} images)"
    )
    for teacher in env.get("teachers", []):
        print(f"teacher: {teacher['run']} (weights sha256 {teacher['weights'][:16]})")
    for member in members:
        print(f"member: {member['run']} (weights sha256 {member['weights'][:16]})")
    if "of_another_version" in row["changes"]:
        print(f"recipe: {json.dumps(run.recipe)} ({row['changes']['of_another_version']})")
    else:
        fields = Recipe.from_json(run.recipe).describe()
        print("recipe: " + " ".join(f"{field}={plain(value)}" for field, value, _, _ in fields))
    if not members:
        table(
            ["epoch", "update", "loss", "accuracy", "val", "seconds"],
            [
                [
                    str(m["epoch"]),
                    f"{m['update']:,}",
                    f"{m['loss']:.4f}",
                    f"{m['accuracy']:.2%}",
                    f"{m['val_accuracy']:.2%}" if "val_accuracy" in m else "–",
                    f"{m['seconds']:,.1f}",
                ]
                for m in run.metrics()
                if "epoch" in m
            ],
            left=0,
        )
    print(f"val {share(row['val'])}; test {share(row['test'])}")
    best = row["test"] or row["val"]
    if best:
        print(f"\n{best['split']}:")
        show_score(from_json(best))


def trials_table(rows: list[dict[str, Any]]) -> "Table":
    """A sweep's trials: their state, val accuracy, epochs, seconds and values."""
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))
    failed = any(r["reason"] for r in rows)
    return drawn_table(
        ["trial", "state", "val %", "epochs", "seconds", *names, *["failed because"] * failed],
        [
            [
                str(r["trial"]),
                r["state"],
                "–" if r["val"] is None else f"{100 * r['val']:.2f}",
                str(r["epochs"]),
                "–" if r["seconds"] is None else f"{r['seconds']:,.0f}",
                *(short(r["values"][name]) if name in r["values"] else "–" for name in names),
                *[r["reason"] or ""] * failed,
            ]
            for r in rows
        ],
        folds=failed,
    )


def show_sweep(rows: list[dict[str, Any]], best: dict[str, Any] | None, command: str) -> None:
    """All trials of a sweep, the best of them, and how to train it on all images."""
    _print(trials_table(rows))
    if best is None:
        print("no trial has been finished")
        return
    complete = sum(row["state"] == "complete" for row in rows)
    print(f"\nbest: trial {best['trial']}, val {best['val']:.2%}, {best['run']}")
    if complete > 1:
        print(f"(the best of {complete} on the same images: its val flatters it)")
    print(f"on all images, scored on test: {command}")


def show_ensemble(members: Sequence[Run], made: Run) -> None:
    """Each member's weight and scores, then the ensemble's."""
    weights = made.recipe["model"]["weights"]
    table(
        ["member", "weight", "parameters", "val %", "test %"],
        [
            [run.name, f"{part:.3f}", f"{run.env['parameters']:,}",
             _short(run.scores.get("val")), _short(run.scores.get("test"))]
            for run, part in zip(members, weights, strict=True)
        ],
    )  # fmt: skip
    if useless := [run.name for run, part in zip(members, weights, strict=True) if not part]:
        print(f"of weight 0, which costs time for nothing; leave out: {', '.join(useless)}")
    for split in ("val", "test"):
        if split in made.scores:
            print(f"{split} accuracy: {share(made.scores[split])}")
    if len(set(weights)) > 1:
        print("(the weights are fitted on val: its val flatters it a little)")
    print(f"run folder: {made.path}")
