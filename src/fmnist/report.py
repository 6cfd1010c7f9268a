"""One HTML file about a run, or several: what they score, how sure they are, where they err.

The figures come from the run folders, the pictures from the data set. Nothing is scored here: the
answers are the logits that training (val) or `fmnist evaluate` (val, test) kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist import compare, evaluation, files, pages, pictures, plots, runs
from fmnist.data import FASHION_MNIST, Data, Split
from fmnist.errors import RunError, UsageError
from fmnist.occlusion import occlusion_map
from fmnist.recipes import RECIPES, Ensemble, Recipe
from fmnist.tables import VIEWS, plain, settings

PICTURES = 12  # most confident mistakes, and least certain images
COMPACT_PICTURES = 6  # of each run, where there are several
OCCLUDED = 4  # right answers, and as many mistakes, whose regions are looked at
CONFUSIONS = 6  # pairs of classes that are named
FILTERS = 64  # of the first layer


def choose_split(opened: Sequence[runs.Run], asked: str | None = None) -> str:
    """The split to report: val, but test where a run was trained on all images, or as asked.

    Raises RunError where a run has no logits of it, UsageError for val where there is none.
    """
    on_all = [run for run in opened if Recipe.from_json(run.recipe).fit_on == "all"]
    if on_all and asked == "val":
        raise UsageError(
            f"{on_all[0].path}: was trained on the validation images too; use --split test"
        )
    split = asked or ("test" if on_all else "val")
    for run in opened:
        run.load_logits(split)
    return split


def write_report(
    opened: Sequence[runs.Run], split: str, data: Data, out: Path | None = None,
    images: Sequence[int] = (),
) -> dict[str, Any]:  # fmt: skip
    """Write the report on runs that were scored on a split, as one file that needs no other.

    Args:
        opened: one run, which is shown in full, or several, which are compared with the first.
        split: "val" or "test", as `choose_split` gives it.
        data: the data that the runs were trained on; for the pictures.
        out: the file, written anew where it exists; by default `reports/NAME.html`.
        images: of one run, the images by their index in the split for which to show the regions
            that mattered; by default some right answers and the most confident mistakes.

    Returns the file's path, the split, and each run's score without its tables.
    Raises RunError, UsageError.
    """
    if images and len(opened) > 1:
        raise UsageError("--images: is for a report on one run; leave it out")
    subjects = [compare.open_subject([run], split) for run in opened]
    shown = data.test.open() if split == "test" else data.val
    for subject in subjects:
        _check(subject, data, shown)
    if any(not 0 <= i < len(shown) for i in images):
        raise UsageError(
            f"--images: expected 0 to {len(shown) - 1}, the images of {split}, received "
            f"{','.join(map(str, images))}"
        )
    compact = len(opened) > 1
    described = [describe_run(each, split, compact) for each in subjects]
    comparison = describe_comparison(subjects) if compact else None
    inside = None if compact else _look_inside(subjects[0], shown, images)
    if out is None:
        more = f"-and-{len(opened) - 1}-more" if compact else ""
        out = Path("reports") / f"{opened[0].name}{more}.html"
    text = _render(
        shown, split=split, data=data.name, runs=described, comparison=comparison, inside=inside
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out.parent}: could not be made ({error.strerror or error})") from error
    files.write_whole(out, lambda p: p.write_text(text, encoding="utf-8", errors="replace"))
    return {
        "report": str(out), "split": split,
        "runs": [
            {"run": each["name"]} | {
                key: getattr(each["score"], key) for key in (
                    "n", "accuracy", "interval", "loss", "expected_calibration_error",
                    "times_opened",
                )
            }
            for each in described
        ],
    }  # fmt: skip


def _check(subject: compare.Subject, data: Data, shown: Split) -> None:
    """Refuse a run whose logits are not of the images that would be shown beside them."""
    run, env = subject.runs[0], subject.runs[0].env
    if env["data"]["hash"] != data.hash:
        raise UsageError(
            f"{run.path}: expected the data that it was trained on ({env['data']['name']}, hash "
            f"{env['data']['hash'][:16]}), received {data.name}, hash {data.hash[:16]}"
        )
    if not np.array_equal(subject.labels, shown.labels):
        raise RunError(f"{run.path}: its logits are of other images than the data's")
    if env["shape"] != list(data.shape) or len(env["classes"]) != len(data.classes):
        raise RunError(f"{run.path}: env.json does not fit the data's images or classes")


# figures


def describe_run(subject: compare.Subject, split: str, compact: bool = False) -> dict[str, Any]:
    """All that is said about a run, from its folder: score, curves, calibration, mistakes, recipe.

    Raises RunError where score.json claims another score than the logits give.
    """
    run, logits, labels = subject.runs[0], subject.logits[0], subject.labels
    env, recipe = run.env, Recipe.from_json(run.recipe)
    score = evaluation.score_logits(
        logits, labels, tuple(env["classes"]), split,
        views=recipe.views, times_opened=run.times_opened(),
    )  # fmt: skip
    claimed = run.scores.get(split, {}).get("correct", score.correct)
    if claimed != score.correct:
        raise RunError(
            f"{run.path}: score.json claims {claimed:,} right on {split}, its logits give "
            f"{score.correct:,}; {runs.command('verify', run.path)} says which holds"
        )
    chance = subject.chance
    confidence, right = chance.max(axis=1), logits.argmax(axis=1) == labels
    surest, doubtful = np.argsort(-confidence, kind="stable"), np.argsort(confidence, kind="stable")
    count = COMPACT_PICTURES if compact else PICTURES

    def tell(indices: NDArray[Any]) -> list[dict[str, Any]]:
        return [_answer(subject, int(i)) for i in indices]

    return {
        "name": run.name, "path": str(run.path), "score": score,
        "views": VIEWS[recipe.views], "cost": subject.describe(), "peak_memory": _peak_memory(run),
        "epochs": _epochs(run), "confusion": _confusion(score), "confusions": _confusions(score),
        "bins": evaluation.calibration_bins(logits, labels), "confidence": confidence.mean(),
        "mistakes": tell(surest[~right[surest]][:count]), "doubtful": tell(doubtful[:count]),
        "recipe": recipe, "changes": _changes(recipe), "env": _environment(env),
        "fields": recipe.describe(), "command": command(run),
    }  # fmt: skip


def _answer(subject: compare.Subject, i: int) -> dict[str, Any]:
    """What is said of an image, and what its label is."""
    classes, chance = subject.runs[0].env["classes"], subject.chance[i]
    predicted, label = int(chance.argmax()), int(subject.labels[i])
    return {
        "image": i, "right": predicted == label, "predicted": classes[predicted],
        "probability": float(chance[predicted]), "label": classes[label],
        "of_label": float(chance[label]),
    }  # fmt: skip


def _epochs(run: runs.Run) -> list[dict[str, Any]]:
    """The learning curve's lines, with nothing in them that cannot be drawn."""
    lines = [line for line in run.metrics() if "epoch" in line]
    for line in lines:
        if not 0 < line["epoch"] <= 100_000:
            raise RunError(f"{run.path}: metrics.jsonl: expected 1 to 100,000 epochs")
        for key in ("loss", "accuracy", "val_loss", "val_accuracy", "seconds"):
            files.require(line.get(key, 0), float, f"{run.path}: metrics.jsonl: {key}")
    return lines


def _peak_memory(run: runs.Run) -> int | None:
    peaks = [line.get("peak_memory") for line in run.metrics()]
    return max((p for p in peaks if type(p) is int), default=None)


def _confusion(score: evaluation.Score) -> list[list[dict[str, Any]]]:
    """Rows of cells: count, share of the row, and of a mistake its share of the largest one."""
    counts = np.array(score.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    largest = float((shares * (1 - np.eye(len(counts)))).max()) or 1.0
    return [
        [
            {
                "n": int(n), "share": float(share), "right": i == j,
                "strength": float(share if i == j else share / largest),
            }
            for j, (n, share) in enumerate(zip(*row, strict=True))
        ]
        for i, row in enumerate(zip(counts, shares, strict=True))
    ]  # fmt: skip


def _confusions(score: evaluation.Score) -> list[dict[str, Any]]:
    """The pairs of classes that are taken for each other most, both ways together."""
    names, counts = [row["class"] for row in score.per_class], score.confusion
    pairs = [
        {
            "first": names[i], "second": names[j],
            "there": counts[i][j], "back": counts[j][i], "n": counts[i][j] + counts[j][i],
        }
        for i in range(len(names)) for j in range(i) if counts[i][j] + counts[j][i]
    ]  # fmt: skip
    return sorted(pairs, key=lambda pair: -pair["n"])[:CONFUSIONS]


def _changes(recipe: Recipe) -> list[tuple[str, str, str]]:
    """(field, value, the shipped recipe's value) of what differs."""
    changes = recipe.changes()
    if not changes:
        return []
    shipped = {name: plain(value) for name, value, _, _ in RECIPES[recipe.name]().describe()}
    return [(name, plain(value), shipped.get(name, "–")) for name, value in changes.items()]


def _environment(env: Mapping[str, Any]) -> list[tuple[str, str]]:
    commit = str(env.get("commit") or "unknown") + (" with changes" if env.get("dirty") else "")
    data = env["data"]
    rows = [
        ("made", env.get("created", "unknown")), ("device", env["device"]),
        ("precision", env["precision"]), ("micro-batch", f"{env['micro_batch']:,} images"),
        ("engine", env["backend"]), ("fmnist", env.get("fmnist", "unknown")), ("commit", commit),
        ("data", f"{data['name']}, {data['n']:,} images, sha256 {data['hash'][:16]}"),
    ]  # fmt: skip
    rows += [(name, version) for name, version in env["versions"].items()]
    rows += [(f"teacher {t['run']}", t["weights"][:16]) for t in env.get("teachers", [])]
    rows += [(f"member {m['run']}", m["weights"][:16]) for m in env.get("members", [])]
    return [(str(name), str(value)) for name, value in rows]


def command(run: runs.Run) -> str:
    """What to type, in a shell, to train a run's recipe, or make an ensemble, once more."""
    recipe, env = Recipe.from_json(run.recipe), run.env
    if isinstance(recipe.options, Ensemble):
        equal = recipe.fit_on == "train" and len(set(recipe.options.weights)) == 1
        members = [member["run"] for member in env.get("members", [])]
        return runs.command("ensemble", *members, *["--equal"] * equal)
    words = ["train", recipe.name if recipe.name in RECIPES else str(run.path / "recipe.json")]
    words += settings(recipe.changes())
    folder = env["data"].get("folder")
    if folder and env["data"]["name"] != FASHION_MNIST:
        words += ["--data", str(folder)]
    for teacher in env.get("teachers", []):
        words += ["--teacher", teacher["run"]]
    line = runs.command(*words)
    return f"KERAS_BACKEND=jax {line}" if env["backend"] == "jax" else line


def describe_comparison(subjects: Sequence[compare.Subject]) -> dict[str, Any]:
    """What `fmnist compare` says about runs, with each class' recall side by side."""
    pairs = compare.compare(subjects)
    classes = [
        {"class": row["class"], "n": row["n"], "recalls": [
            row["first"], *(pair.per_class[i]["second"] for pair in pairs)
        ]}
        for i, row in enumerate(pairs[0].per_class)
    ]  # fmt: skip
    return {
        "sentence": compare.sentence(subjects, pairs), "pairs": pairs, "classes": classes,
        "subjects": [subject.describe() for subject in subjects],
    }  # fmt: skip


# what needs the weights


def _look_inside(
    subject: compare.Subject, shown: Split, images: Sequence[int]
) -> dict[str, Any] | None:
    """The first layer's kernel and the maps of some images; None for a run without its weights."""
    run = subject.runs[0]
    if not run.finished:
        return None
    env = run.env
    model, about = evaluation.load_model(run)
    if about["shape"] != env["shape"] or about["classes"] != env["classes"]:
        raise RunError(f"{run.weights_path}: its shape or classes are not those of env.json")
    forward = evaluation.compile_forward(model, about["mean"], about["deviation"])
    grey = int(np.clip(round(255 * about["mean"]), 0, 255))
    batch = min(evaluation.BATCH, env["micro_batch"])
    maps = []
    for i in images or _worth_a_look(subject):
        label = int(subject.chance[i].argmax())
        lost = occlusion_map(forward, shown.images[i], grey, label=label, batch=batch)
        maps.append(_answer(subject, i) | {"map": lost, "lost": float(lost.max())})
    kernels = (getattr(layer, "kernel", None) for layer in model.layers)
    first = next((k for k in kernels if k is not None and len(k.shape) == 4), None)
    kernel = None if first is None else np.asarray(first.value, np.float32)
    return {"maps": maps, "kernel": kernel}


def _worth_a_look(subject: compare.Subject) -> Iterable[int]:
    """The surest right answer of some classes spread over all, and the surest mistakes."""
    chance, labels = subject.chance, subject.labels
    surest = np.argsort(-chance.max(axis=1), kind="stable")
    right = chance.argmax(axis=1)[surest] == labels[surest]
    wanted = np.unique(np.linspace(0, chance.shape[1] - 1, OCCLUDED).round().astype(int))
    chosen: list[int] = []
    for label in wanted:
        chosen += [int(i) for i in surest[right & (labels[surest] == label)][:1]]
    return chosen + [int(i) for i in surest[~right][:OCCLUDED]]


# the page


def _render(shown: Split, **context: Any) -> str:
    from markupsafe import Markup

    page = pages.environment()
    page.filters["percent"] = lambda share, digits=2: f"{100 * share:.{digits}f}"
    page.filters["signed"] = lambda points: f"{points:+.2f}".replace("-", "−")
    page.filters["png"] = pictures.png_uri
    return page.get_template("report.html.jinja").render(
        picture=lambda i: pictures.png_uri(shown.images[i]),
        overlay=lambda each: pictures.overlay(shown.images[each["image"]], each["map"]),
        tiles=lambda kernel: pictures.filter_tiles(kernel)[:FILTERS],
        curves=lambda epochs: [Markup(svg) for svg in plots.learning_curves(epochs)],
        reliability=lambda bins: Markup(plots.reliability(bins)),
        pareto=lambda *given: Markup(plots.pareto(*given)),
        plain=plain, **context,
    )  # fmt: skip
