"""Files that appear whole or not at all, and reading what a stranger may have written.

Writing: a temporary name, fsync, rename; JSON lines are appended under a lock, and a torn last
line, which a crash can leave, is ignored. Reading: JSON and safetensors, nothing that can hold
code; sizes are looked at before anything is read, and each refusal is a RunError of one line.
"""

import contextlib
import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fmnist.errors import RunError, UsageError, printable

try:
    import fcntl
except ModuleNotFoundError:  # Windows has no flock; there, two writers are not kept apart.
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_JSON = 16 * 2**20  # bytes; a recipe is a thousand, a score with its confusions a few
KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
MARKED = 2**16  # bytes at both ends of a file that are searched for the mark of its kind
LARGEST_LINES = 64 * 2**20  # bytes of a ledger or a learning curve
MOST_LINES = 250_000


# writing


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in its place in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def require_own(path: Path, mark: str) -> None:
    """Raise UsageError unless `path` is new, or a file of the kind that has this `mark`.

    The mark is text that fmnist writes near the begin or the end of each file of a kind. A link is
    not followed: what it leads to has another name than the one that the user gave.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from None
    kinds = {stat.S_ISLNK: "a link", stat.S_ISDIR: "a folder", stat.S_ISREG: "another file"}
    found = next((name for test, name in kinds.items() if test(mode)), "a pipe or device")
    if not stat.S_ISREG(mode) or mark.encode() not in _ends(path):
        raise UsageError(
            f"{path}: expected a new name, or a file that fmnist wrote there before, found "
            f"{found}; choose another name"
        )


def _ends(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            begin = file.read(MARKED)
            file.seek(max(MARKED, os.fstat(file.fileno()).st_size - MARKED))
            return begin + b"\n" + file.read(MARKED)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None


def write_own(path: Path, mark: str, write: Callable[[Path], object]) -> None:
    """Write a file that a user named, whole or not at all, and the folders that it needs.

    What `write` makes must hold the `mark`. Raises as `require_own` and `write_whole` do.
    """
    require_own(path, mark)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent}: could not be made ({error.strerror or error})") from error
    write_whole(path, write)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system lets a folder be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write an object as indented JSON, whole or not at all."""
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"  # ASCII: a path may be no Unicode
    write_whole(path, lambda p: p.write_text(text, encoding="utf-8"))


def require_file(path: Path) -> None:
    """Raise RunError for a link, pipe or device, which would be written through or waited for."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise RunError(f"{path}: expected a file, found something else; take it away")


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON line, whole even when many processes append at once.

    On a full disk nothing is left of it.
    """
    require_file(path)
    line = (json.dumps(values, allow_nan=False) + "\n").encode()
    try:
        with path.open("ab+", buffering=0) as file:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            if size and not _ends_with_newline(file):
                line = b"\n" + line  # after a torn line, start on a new one
            try:
                if (written := file.write(line)) != len(line):
                    raise OSError(f"{written} of {len(line)} bytes, disk full?")
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)
                raise
    except OSError as error:
        raise RunError(f"{path}: could not be written ({error.strerror or error})") from error


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


@contextlib.contextmanager
def held(path: Path, refusal: str) -> Iterator[IO[str]]:
    """Hold the lock `path`, which dies with its process. RunError(`refusal`) if another has it.

    Gives the open file: a child process that inherits it holds the lock too.
    """
    require_file(path)
    try:
        file = path.open("a")
    except OSError as error:
        raise RunError(f"{path}: could not be written ({error.strerror or error})") from error
    with file:
        if fcntl:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(refusal) from None
        yield file


def save_arrays(path: Path, arrays: "Mapping[str, NDArray[Any]]", metadata: dict[str, str]) -> None:
    """Write arrays by name as safetensors, whole or not at all."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    def write(temporary: Path) -> None:
        temporary.touch()  # with the usual permissions, which safetensors would narrow
        try:
            save_file(
                {k: np.ascontiguousarray(v) if v.ndim else v for k, v in arrays.items()},
                temporary,
                metadata=metadata,
            )
        except SafetensorError as error:
            raise OSError(str(error)) from error

    write_whole(path, write)


# reading


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder of that name; False too where this process cannot tell."""
    with contextlib.suppress(OSError):
        return Path(path).is_dir()
    return False


def parse_json(text: str | bytes, where: object) -> dict[str, Any]:
    """A JSON object. Raises RunError for anything else: NaN, a key that is there twice, a list."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            raise ValueError("a key appears twice")
        return values

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not allowed in JSON")

    def finite(digits: str) -> float:
        if math.isinf(number := float(digits)):
            raise ValueError("a number is too large")
        return number

    try:
        value = json.loads(
            text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite
        )
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where}: expected a JSON object ({error})") from None
    if not isinstance(value, dict):
        raise RunError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def require(value: Any, form: Any, where: object) -> None:
    """Raise RunError unless `value`, from JSON, is of a form.

    A form is a type (a float may be written as a whole number), a list of one form that all of a
    list's items have, or a dict of forms by key; other keys are free.
    """
    if isinstance(form, dict) and isinstance(value, dict):
        for key, each in form.items():
            if key not in value:
                raise RunError(f"{where}: expected {key}, found none")
            require(value[key], each, f"{where}: {key}")
    elif isinstance(form, list) and isinstance(value, list):
        for item in value:
            require(item, form[0], where)
    else:
        kind = form if isinstance(form, type) else type(form)
        fits = isinstance(value, (int, float) if kind is float else kind)
        if isinstance(value, bool):  # which Python takes for a whole number
            fits = kind is bool
        elif kind is float and fits:
            fits = abs(value) < 1e300  # a longer whole number has no float
        if not fits:
            raise RunError(f"{where}: expected {KINDS[kind]}, found {type(value).__name__}")
        if kind is str and value != printable(value):
            raise RunError(f"{where}: expected text, found control characters in it")


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file of at most 16 MiB. Raises RunError for anything else."""
    return parse_json(_read(path, LARGEST_JSON, "a JSON object"), path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file, torn ones left out; none where there is no file."""
    lines: list[dict[str, Any]] = []
    require_file(path)
    if path.exists():
        content = _read(path, LARGEST_LINES, "JSON lines")
        if content.count(b"\n") > MOST_LINES:
            raise RunError(f"{path}: expected at most {MOST_LINES:,} lines, found more")
        for line in content.split(b"\n"):
            with contextlib.suppress(RunError):
                lines.append(parse_json(line, path))
    return lines


def _read(path: Path, largest: int, expected: str) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > largest:
                raise RunError(
                    f"{path}: expected {expected} of at most {largest:,} bytes, found {size:,}"
                )
            return file.read(largest)
    except OSError as error:
        raise RunError(f"{path}: expected {expected} ({error.strerror or error})") from None


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_arrays(
    path: Path,
    expected: Mapping[str, tuple[int, ...]] | None = None,
    types: Collection[str] = ("F32", "I32", "I64", "U32"),
) -> "dict[str, NDArray[Any]]":
    """The arrays of a safetensors file by name.

    Raises RunError for what is no such file, for arrays of other `types` (in safetensors' names)
    and, where the arrays' shapes by name are `expected`, for others, before any is read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            parts = {name: file.get_slice(name) for name in names}
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
            if other := {part.get_dtype() for part in parts.values()} - {*types}:
                raise RunError(f"{path}: expected values of {', '.join(types)}, found {min(other)}")
            if expected is not None and shapes != dict(expected):
                raise RunError(f"{path}: {_difference(shapes, expected)}")
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: a type NumPy lacks
        raise RunError(f"{path}: expected safetensors ({error})") from None


def load_metadata(path: Path) -> dict[str, Any]:
    """What a safetensors file says `about` its arrays, none of which is read. Raises RunError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("about", "")
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: expected safetensors ({error})") from None
    return parse_json(text, f"{path}: metadata")


def _difference(shapes: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    name = min(k for k in {*shapes, *expected} if shapes.get(k) != expected.get(k))
    return (
        f"expected the arrays of recipe.json's model, {name!r} of shape "
        f"{expected.get(name, 'none')}, found {shapes.get(name, 'none')}"
    )
