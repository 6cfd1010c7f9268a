"""Paths that a command is given: what the system cannot take is refused before all else."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from fmnist.errors import UsageError


def require_usable(path: Path, name: str) -> None:
    """Raise UsageError for a path that is too long or not open to this process. It may be new."""
    try:
        path.stat()
        if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UsageError(f"{name}: {path}: cannot be used ({error.strerror or error})") from None


def check_paths(params: Iterable[Any], ctx: Any, given: Sequence[str]) -> None:
    """Check each path that a command's `params` got from the words `given`, by its context.

    An empty word, as an unset variable gives, would be the folder that the user stands in.
    """
    for param in params if not ctx.resilient_parsing else ():  # a shell completes a word
        value = ctx.params.get(param.name)
        argument = param.metavar if param.opts == [param.name] else ""
        name = argument or max(param.opts, key=len)
        for path in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(path, Path):
                continue
            if path == Path() and ("" in given or f"{name}=" in given):
                raise UsageError(f"{name}: expected a path, received an empty one")
            require_usable(path, name)


class Command(TyperCommand):
    """A command that checks the paths it is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, then check."""
        given = [*args]
        rest = super().parse_args(ctx, args)
        check_paths(self.params, ctx, given)
        return rest


class Group(TyperGroup):
    """A group of commands that checks the paths it is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, then check."""
        given = [*args]
        rest = super().parse_args(ctx, args)
        check_paths(self.params, ctx, given)
        return rest
