"""The words for a recipe's values, in tables, pages and commands."""

import hashlib
from collections.abc import Mapping
from typing import Any

from fmnist.recipes.recipe import Recipe

VIEWS = {  # the more of them, the later
    "one": "one view",
    "flip": "mean over image and mirror image",
    "shift": "mean over image, mirror image and both shifted by a pixel, 10 views",
}


def plain(value: Any) -> str:
    """A recipe's value as `--set` takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(v.name if isinstance(v, Recipe) else str(v) for v in value) or "none"
    if isinstance(value, str) and value.startswith("{"):  # a network's JSON
        return f"SHA-256 {hashlib.sha256(value.encode()).hexdigest()[:12]}"
    return str(value)


def settings(values: Mapping[str, Any]) -> list[str]:
    """Recipe fields and their values as words of a command: `--set`, `NAME=VALUE`, …"""
    return [word for name, value in values.items() for word in ("--set", f"{name}={plain(value)}")]


def short(value: Any) -> str:
    """A recipe's value for a table: as `plain` writes it, numbers to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else plain(value)
