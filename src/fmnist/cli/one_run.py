"""What `fmnist runs` says of one run: its line in the table, and all that `runs show` prints."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist.cli.tables import paragraph, show_score, table
from fmnist.errors import UsageError, printable
from fmnist.recipes.recipe import current_name
from fmnist.recipes.shipped import changes_of
from fmnist.recipes.text import plain
from fmnist.runs.ledger import not_counted

if TYPE_CHECKING:
    from fmnist.runs.run import Run


def run_row(run: "Run") -> dict[str, Any]:
    """A run's line in the table, even if its recipe has fields that this version does not know."""
    metrics, env = run.metrics(), run.env
    try:
        name, changes = run.recipe.name, changes_of(run.recipe)
    except UsageError as error:
        recorded = run.recipe_json.get("name")
        if not isinstance(recorded, str):
            raise
        name = printable(current_name(recorded))
        changes = {"of_another_version": str(error)}
    return {
        "run": run.name,
        "recipe": name,
        "changes": changes,
        "data": env["data"].get("name"),
        "created": env.get("created"),
        "parameters": env["parameters"],
        "val": run.scores.get("val"),
        "test": test_score(run),
        "finished": run.finished,
        "state": state_of(run),
        "seconds": metrics[-1]["seconds"] if metrics else 0.0,
        "device": env["device"],
        "times_opened": run.times_opened(),
    }


def test_score(run: "Run") -> dict[str, Any] | None:
    """The recorded score on test, with the present count of how often test was opened."""
    score = run.scores.get("test")
    return score and score | {"times_opened": run.times_opened()}


def state_of(run: "Run") -> str:
    """`finished`, `pruned` by a sweep, or `unfinished`."""
    if run.finished:
        return "finished"
    why = (run.env.get("ended") or {}).get("why", "")
    return "pruned" if why.startswith("pruned") else "unfinished"


def show_run(run: "Run") -> None:
    """A run's recipe, environment, learning curve and scores."""
    from fmnist.scoring.figures import headline, read_score

    row, env = run_row(run), run.env
    members, ended = env.get("members", []), env.get("ended") or {}
    unfinished = f"unfinished ({ended['why']})" if ended else "unfinished"
    state = f"trained in {row['seconds']:,.1f} s" if row["finished"] else unfinished
    state = f"{len(members)} members {state}" if members else state
    paragraph(f"{run.path}: {row['recipe']}, {row['parameters']:,} parameters, {state}")
    changed = " with changes" if env.get("dirty") else ""
    commit = f"commit {(env.get('commit') or 'unknown')[:7]}{changed}"
    made = env.get("created") or "at an unknown time"
    paragraph(f"{made}, fmnist {env.get('fmnist') or 'unknown'}, {commit}")
    engine = f"{env['backend']} {env['versions'].get(env['backend'], '')}"
    paragraph(f"{env['precision']} on {env['device']}, {engine}")
    paragraph(f"{env['data']['name']} ({env['data']['n']:,} images), {_memory(run)}")
    for role in ("teacher", "member"):
        for each in env.get(f"{role}s", []):
            paragraph(f"{role}: {each['run']} (weights sha256 {each['weights'][:16]})")
    for each in env.get("photos", []):
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in each["kinds"].items())
        paragraph(
            f"photos: {each['folder']}: {each['files']:,}, with which {each['images']:,} images "
            f"were made; {kinds}"
        )
    if given := env.get("command"):
        own = Path(given[0]).name in ("fmnist", "__main__.py")
        paragraph(f"command: {shlex.join(['fmnist', *given[1:]] if own else given)}")
    if "of_another_version" in row["changes"]:
        paragraph(f"recipe: {json.dumps(run.recipe_json)} ({row['changes']['of_another_version']})")
    else:
        fields = [
            f"{'*' * (field in row['changes'])}{field}={plain(value)}"
            for field, value, _, _ in run.recipe.describe()
        ]
        marked = f" (* differs from {row['recipe']}'s own)" if row["changes"] else ""
        paragraph(f"recipe{marked}: {' '.join(fields)}")
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
    paragraph(f"val {headline(row['val'])}; test {headline(row['test'])}")
    if others := not_counted(run.scorings()):
        paragraph(f"test opened {row['times_opened']}×; {others}")
    if best := row["test"] or row["val"]:
        print(f"\n{best['split']}:")
        show_score(read_score(best))


def _memory(run: "Run") -> str:
    """Images in an update and at once, and the peak of memory where it was recorded."""
    said = f"micro-batch {run.env['micro_batch']:,}"
    names = (("peak_memory", "peak memory"), ("peak_accelerator_memory", "on the accelerator"))
    for key, name in names:
        peaks = [line.get(key) for line in run.metrics()]
        if peak := max((p for p in peaks if type(p) is int), default=0):
            said += f", {name} {peak / 1e9:.2f} GB"
    return said
