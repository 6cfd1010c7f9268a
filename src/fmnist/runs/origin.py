"""What weights and checkpoints were trained by: hashes of the recipe and of what env.json fixes."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fmnist.errors import RunError
from fmnist.files import require

if TYPE_CHECKING:
    from fmnist.runs.run import Run

FORM = {"recipe.json": str, "env.json": str}
# Of env.json, what an update depends on. Folders, names and versions may change.
FIXED = (
    *("backend", "precision", "threads", "processes", "devices", "parameters"),
    *("shape", "classes", "mean", "deviation"),
)


def origin_of(recipe: Mapping[str, Any], env: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of a run's recipe and environment, by file."""
    return {"recipe.json": _hash(recipe), "env.json": _hash(_fixed(env, env["micro_batch"]))}


def require_origin(about: Mapping[str, Any], where: object) -> None:
    """Raise RunError for metadata whose `origin` is none; that of older files has no such key."""
    require(about.get("origin", dict.fromkeys(FORM, "")), FORM, f"{where}: origin")


def require_unchanged(run: "Run", about: Mapping[str, Any], what: str) -> None:
    """Raise RunError unless a run's recipe and environment are those that a file was trained by.

    `about` is the file's metadata, and `what` names it; files of older versions have no origin. A
    micro-batch that was halved since is no change.
    """
    if "origin" not in about:
        return
    env = run.env
    sizes = (env["micro_batch"], *env.get("halved", []))
    known = {
        "recipe.json": [_hash(run.recipe_json)],
        "env.json": [_hash(_fixed(env, size)) for size in sizes],
    }
    for file, hashes in known.items():
        if about["origin"][file] not in hashes:
            raise RunError(
                f"{run.path}: expected the {file} that {what} came from, found a changed one; put "
                "the old one back, or start a new run with what it says now"
            )


def _fixed(env: Mapping[str, Any], micro_batch: int) -> dict[str, Any]:
    data = {key: env["data"].get(key) for key in ("hash", "n", "val_index_hash")}
    others = [each["weights"] for key in ("teachers", "members") for each in env.get(key) or []]
    others += [each["sha256"] for each in env.get("photos") or []]
    fixed = {key: env.get(key) for key in FIXED}
    return fixed | {"data": data, "others": others, "micro_batch": micro_batch}


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
