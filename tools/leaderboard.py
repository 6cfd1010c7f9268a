"""The leaderboard: every record in one table, made from the records themselves.

    python tools/leaderboard.py

Writes `records/README.md`; a test compares it with the records. Operations count a product and a
sum as two, backward as twice forward; a teacher's are not in them.
"""

import statistics
from pathlib import Path
from typing import Any

from fmnist.files import read_lines, write_whole
from fmnist.recipes.recipe import Recipe
from fmnist.recipes.shipped import changes_of
from fmnist.recipes.text import settings
from fmnist.runs.run import Run
from fmnist.scoring.figures import wilson_interval

RECORDS = Path(__file__).parents[1] / "records"
HEAD = """# Recorded results

The best first. Made by `python tools/leaderboard.py` from the folders beside it; each has its
recipe, environment, learning curve, a line a seed and what there is to say about it. Test accuracy
is the mean over seeds, ± their standard deviation; the interval is Wilson's 95 % for its images.
Operations are forward for one image, and of a whole training run (images × epochs, backward as
twice forward). Seconds are the median from the first update to the final weights, on the device
named. `LOG.md` has what was tried.

![Test accuracy against parameters and against the operations of training](pareto.png)

`python tools/pareto.py --out records/pareto.png` draws it, with what is published. The dashed front
leaves out "old data", scored on the release before 31 August 2017 (copies of test images in train
make it read about 0.4 points too high), and "claim", told without code or log.

| recipe | parameters | test accuracy | 95 % interval | seeds | forward, MFLOP | training, PFLOP | \
seconds | device | date | command | record |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def changes(recipe: Recipe) -> str:
    """The options that train this recipe today: what the shipped one has changed since, too."""
    changed = {k: v for k, v in changes_of(recipe).items() if k not in ("seed", "fit_on")}
    fit_on = " --fit-on all" if recipe.fit_on == "all" else ""
    return "".join(f" {word}" for word in settings(changed)) + fit_on


def operations(run: Run) -> tuple[int, int]:
    """Floating-point operations forward for one image, and of the whole training."""
    shape, classes = tuple(run.env["shape"]), len(run.env["classes"])
    forward = run.recipe.options.operations(shape, classes)
    return forward, 3 * forward * run.env["data"]["n"] * run.recipe.epochs


def row(record: Path) -> tuple[float, str]:
    """A record's mean accuracy and its line of the table."""
    run = Run(record)
    lines: list[dict[str, Any]] = read_lines(record / "results.jsonl")
    recipe, env, n = run.recipe, run.env, lines[0]["n"]
    accuracies = [line["accuracy"] for line in lines]
    mean = statistics.mean(accuracies)
    spread = f" ± {100 * statistics.stdev(accuracies):.2f}" if len(lines) > 1 else ""
    low, high = wilson_interval(round(mean * n), n)
    forward, training = operations(run)
    seconds = statistics.median(line["seconds"] for line in lines)
    teachers = "".join(f" --teacher {teacher['run']}" for teacher in env.get("teachers", []))
    engine = "" if env["backend"] == "tensorflow" else f"KERAS_BACKEND={env['backend']} "
    cells = (
        f"`{recipe.name}`",
        f"{lines[0]['parameters']:,}",
        f"{100 * mean:.2f} %{spread}",
        f"{100 * low:.2f}–{100 * high:.2f}",
        f"{len(lines)}",
        f"{forward / 1e6:.1f}",
        f"{training / 1e15:.3g}",
        f"{seconds:,.0f}",
        env["device"],
        record.name[:10],
        f"`{engine}fmnist train {recipe.name}{changes(recipe)} --test{teachers}`",
        f"[{record.name}]({record.name})",
    )
    return mean, "| " + " | ".join(cells) + " |\n"


def page(records: Path = RECORDS) -> str:
    """The whole page as Markdown."""
    rows = [row(path.parent) for path in sorted(records.glob("*/results.jsonl"))]
    return HEAD + "".join(line for _, line in sorted(rows, key=lambda each: -each[0]))


if __name__ == "__main__":
    out = RECORDS / "README.md"
    write_whole(out, lambda path: path.write_text(page(), encoding="utf-8"))
    print(out)
