"""The JSON files of a run folder: which keys each has, and of which type."""

from pathlib import Path
from typing import Any

from fmnist.errors import RunError
from fmnist.files import read_json, read_lines, require

ENV = {
    "backend": str,
    "classes": [str],
    "deviation": float,
    "device": str,
    "mean": float,
    "data": {"hash": str, "n": int, "name": str, "val_index_hash": str},
    "micro_batch": int,
    "parameters": int,
    "precision": str,
    "shape": [int],
    "threads": int,
    "versions": {},
}
ENV_OPTIONAL = {
    "commit": str,
    "created": str,
    "command": [str],
    "fmnist": str,
    "processes": int,
    "devices": int,
    "halved": [int],
    "log": [str],
    "mlflow": str,
    "ended": {"when": str, "why": str},
    "teachers": [{"run": str, "weights": str}],
    "members": [{"run": str, "weights": str}],
    "photos": [
        {"folder": str, "files": int, "images": int, "kinds": {}, "sha256": str, "source": str}
    ],
}
SCORE = {
    "split": str,
    "n": int,
    "correct": int,
    "accuracy": float,
    "interval": [float],
    "loss": float,
    "expected_calibration_error": float,
    "confusion": [[int]],
    "views": str,
    "per_class": [{"class": str, "precision": float, "recall": float, "f1": float, "n": int}],
    "images_per_second": float,
}
CHECKPOINT = {"update": int, "seconds": float, "scoring_seconds": float}
LIMITS = {"threads": 4096, "micro_batch": 65_536}  # of env.json; both are at least 1
METRICS = {"update": int, "seconds": float}
EPOCH = {"epoch": int, "loss": float, "accuracy": float}


def read_env(run: Path) -> dict[str, Any]:
    """`env.json` of a run folder, checked. Raises RunError."""
    path = run / "env.json"
    env = read_json(path)
    for key, form in ENV_OPTIONAL.items():
        if form is not str and key in env and env[key] is None:
            del env[key]
    optional = {k: form for k, form in ENV_OPTIONAL.items() if env.get(k) is not None}
    require(env, ENV | optional, path)
    require(env["data"].get("folder", ""), str, f"{path}: data: folder")
    reading = env["data"].get("reading", {})
    kinds = {"size": int, "skip_unreadable": bool}
    require(reading, {k: form for k, form in kinds.items() if k in reading}, f"{path}: reading")
    if set(reading) - set(kinds):
        raise RunError(f"{path}: reading: expected {', '.join(kinds)}, found {sorted(reading)}")
    require(list(env["versions"].values()), [str], f"{path}: versions")
    for each in env.get("photos", []):
        require(list(each["kinds"].values()), [int], f"{path}: photos: kinds")
    for key, limit in LIMITS.items():
        if not 1 <= env[key] <= limit:
            raise RunError(f"{path}: {key}: expected 1 to {limit:,}, found {env[key]}")
    if not (0 <= env["mean"] <= 1 and 0 < env["deviation"] <= 1):
        raise RunError(
            f"{path}: expected mean and deviation of pixels from 0 to 1, deviation above 0, found "
            f"{env['mean']:g} and {env['deviation']:g}"
        )
    if len(env["shape"]) != 3 or min(env["shape"]) < 1:
        raise RunError(
            f"{path}: expected the data's image shape (height, width, 1), found {env['shape'][:4]}"
        )
    return env


def read_scores(run: Path) -> dict[str, Any]:
    """`score.json` of a run folder, checked; empty where there is none. Raises RunError."""
    path = run / "score.json"
    scores = read_json(path) if path.exists() else {}
    for split, score in scores.items():
        if split not in ("val", "test"):
            raise RunError(f"{path}: expected scores of val and test, found {split!r}")
        require(score, SCORE, f"{path}: {split}")
        require(score.get("times_opened") or 0, int, f"{path}: {split}: times_opened")
        sizes = {len(score["confusion"]), *map(len, score["confusion"])}
        if sizes != {len(score["per_class"])} or len(score["interval"]) != 2:
            raise RunError(f"{path}: {split}: confusion, classes or interval do not fit")
    return scores


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` of a run folder, checked, oldest first. Raises RunError."""
    path = run / "metrics.jsonl"
    lines = read_lines(path)
    for line in lines:
        require(line, METRICS | (EPOCH if "epoch" in line else {}), path)
        require(line.get("val_accuracy", 0), float, f"{path}: val_accuracy")
    return lines
