"""The fields of recipes and networks: their meaning, their type, and errors that help."""

import dataclasses
import difflib
import typing
from collections.abc import Iterable
from typing import Any

from fmnist.errors import UsageError


def setting(default: Any, meaning: str, unit: str = "") -> Any:
    """A dataclass field that carries its meaning and unit for `fmnist recipes NAME`."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "unit": unit})


def settle(settings: Any, prefix: str = "") -> None:
    """Give each field of a frozen dataclass that was just made its type. Raises UsageError."""
    for name, hint in typing.get_type_hints(type(settings)).items():
        if hint in (int, float, bool) or typing.get_origin(hint) is tuple:
            value = parse(prefix + name, getattr(settings, name), hint)
            object.__setattr__(settings, name, value)


def require(holds: bool, name: str, expected: str, received: object) -> None:
    """Raise UsageError unless it holds."""
    if not holds:
        raise UsageError(f"{name}: expected {expected}, received {received!r}")


def one_of(what: str, name: Any, known: Iterable[Any]) -> None:
    """Raise UsageError unless `name` is known; it suggests the nearest name, or lists all."""
    known = list(known)
    if name in known:
        return
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    if near:
        raise UsageError(f"unknown {what} {name!r}; did you mean {near[0]}?")
    raise UsageError(f"unknown {what} {name!r}; known: {', '.join(str(k) for k in known)}")


def parse(name: str, value: Any, hint: Any) -> Any:
    """`value`, of the type `hint` or as text or JSON, as that type."""
    origin = typing.get_origin(hint)
    try:
        if origin is tuple:
            if value in ("none", "", None):
                return ()
            parts = value.split(",") if isinstance(value, str) else value
            parts = [parts] if isinstance(parts, int) else parts
            return tuple(parse(name, part, typing.get_args(hint)[0]) for part in parts)
        if hint is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                str(value).lower()
            ]
        if hint is int:
            if isinstance(value, float) and not value.is_integer():
                raise ValueError
            return int(value)
        number = float(value)
        if number != number:
            raise ValueError
        return number
    except (ValueError, KeyError, TypeError, OverflowError):
        kinds = {bool: "yes or no", int: "a whole number", float: "a number"}
        expected = kinds.get(hint, "whole numbers separated by commas")
        raise UsageError(f"{name}: expected {expected}, received {value!r}") from None
