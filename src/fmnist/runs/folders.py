"""Makes folders of runs, sweeps and audits, and checks run folders from strangers."""

import contextlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

from fmnist import files
from fmnist.errors import RunError


def make_folder(
    path: Path | None,
    parent: str,
    name: str,
    refusal: Callable[[Path], str],
    fill: Callable[[Path], object],
) -> Path:
    """Make a folder that holds a file `lock` and what `fill` writes into it, and return its path.

    Args:
        path: the folder; None: a new one in `parent`, named by the time and `name`.
        refusal: makes the message for a folder that exists and is not empty.
        fill: is called under the lock. If it fails, the folder is removed.

    Raises RunError. If two processes ask for the same folder at once, only one gets it. A folder
    that a killed process left before it was filled counts as empty.
    """
    if path is not None:
        refuse_existing(path, refusal)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for count in itertools.count(1):
        made_up = Path(parent) / (f"{stamp}-{name}" + (f"-{count}" if count > 1 else ""))
        folder = path if path is not None else made_up
        try:
            folder.mkdir(parents=True, exist_ok=path is not None)
            if os.name == "nt":  # where no lock keeps another process out
                (folder / "lock").touch(exist_ok=False)
        except FileExistsError:
            if path is not None:
                raise RunError(refusal(folder)) from None
        except OSError as error:
            raise RunError(f"{folder}: could not be made ({error.strerror or error})") from error
        else:
            break
    with files.held(folder / "lock", refusal(folder)):
        refuse_existing(folder, refusal)  # another process may have filled it by now
        try:
            fill(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return folder


def refuse_existing(path: Path, refusal: Callable[[Path], str]) -> None:
    """Raise RunError with `refusal` for a path that exists, unless it is a folder to be filled."""
    if path.exists() and not (path.is_dir() and _is_unfilled(path)):
        raise RunError(refusal(path))


def _is_unfilled(folder: Path) -> bool:
    """Whether a folder is empty, or holds what a process that was killed in `fill` leaves."""
    names = {entry.name for entry in folder.iterdir()}
    rest = {name for name in names if not fnmatch(name, ".*.tmp")} - {"lock", "env.json"}
    return not names or ("lock" in names and not rest and not (folder / "lock").stat().st_size)


def is_run(path: Path) -> bool:
    """Whether there is a run folder; False too where this process cannot tell."""
    with contextlib.suppress(OSError):
        return (path / "recipe.json").is_file()
    return False


def require_plain_files(
    folder: Path,
    patterns: Sequence[str] = ("*", "checkpoint/*", "onnx/*"),
    apart: Sequence[str] = (),
) -> None:
    """Raise RunError for a folder with a link that leads out of it, a pipe or a device.

    The names `apart` are not looked at.
    """
    inside = folder.resolve()
    for entry in (entry for pattern in patterns for entry in folder.glob(pattern)):
        if entry.name in apart:
            continue
        if entry.is_symlink() and not entry.resolve().is_relative_to(inside):
            raise RunError(f"{entry}: expected a file, found a link out of the folder")
        with contextlib.suppress(OSError):  # a temporary file may be gone by now
            mode = entry.stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise RunError(f"{entry}: expected a file, found a pipe or device")


def require_same_files(run: Path, known: Mapping[str, os.stat_result | None]) -> None:
    """Raise RunError unless the files of these names in a run folder are the `known` ones."""
    with contextlib.suppress(OSError):
        if all(not was or os.path.samestat(was, (run / n).stat()) for n, was in known.items()):
            return
    raise RunError(
        f"{run}: could not be written, since the run was moved away from there; move it back, then "
        "resume it by fmnist train --resume, or score it again"
    )
