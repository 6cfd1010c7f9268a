"""Checks that data is still the data that a run or an audit recorded."""

from collections.abc import Mapping
from typing import Any

from fmnist.data.splits import Data
from fmnist.errors import RunError


def require_same_data(owner: object, recorded: Mapping[str, Any], data: Data) -> None:
    """Raise RunError unless data and validation split are those that a run or audit recorded."""
    if changes := changes_of_data(recorded, data):
        raise RunError(f"{owner}: the data is not the same: {'; '.join(changes)}")


def changes_of_data(recorded: Mapping[str, Any], data: Data) -> list[str]:
    """What differs between the data that a run or an audit recorded and this data, in words."""
    known = {
        "data": (recorded["hash"], data.hash),
        "validation split": (recorded["val_index_hash"], data.val_index_hash),
    }
    return [
        f"{what} {then[:12]}, now {now[:12]}" for what, (then, now) in known.items() if then != now
    ]
