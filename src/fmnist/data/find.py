"""Looks for a data set in a file or folder that someone names, and tells its form."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fmnist.data.forms import archive, csv_table, idx_files, image_folder
from fmnist.data.parts import impostor_in, role
from fmnist.errors import DataError

MOST_FOLDERS = 5_000  # looked into
LISTED = 12
EXPECTED = "see docs/data.md for the forms: IDX, CSV, npz, Parquet, folders of images, zip and tar"
DULL = {"raw", "data", "gzip", "idx", "images", "processed", "fashion", "dataset", "download"}


class Found(NamedTuple):
    """A data set: its form, its name, the path that names it, and its files or folder."""

    form: str
    name: str
    place: Path
    files: tuple[Path, ...]


def named_place(place: str | os.PathLike[str] | None) -> str:
    """Absolute path of the data that `place` or FMNIST_DATA names, found; empty for none."""
    if not (asked := place or os.environ.get("FMNIST_DATA")):
        return ""
    find_set(Path(asked))
    return str(Path(asked).resolve())


def find_set(place: Path) -> Found:
    """The one data set in `place`: a file, a folder, or the beginning of its files' names.

    Below a folder the one set is found; of several none is chosen. Raises DataError.
    """
    if place.is_file():
        return _of_file(place)
    if not place.is_dir():
        if (found := _beginning(place)) is not None:
            return found
        raise DataError(
            f"{place}: expected data, found no file and no folder; check --data or FMNIST_DATA"
        )
    found_here = list(_in_folder(place))
    if len(found_here) > 1:
        listed = ", ".join(str(found.place) for found in found_here[:LISTED])
        more = f" and {len(found_here) - LISTED} more" if len(found_here) > LISTED else ""
        raise DataError(f"{place}: expected one data set, found several; name one: {listed}{more}")
    if found_here:
        return found_here[0]
    raise DataError(f"{place}: expected a data set, found none; {EXPECTED}{_hint(place)}")


def _hint(place: Path) -> str:
    names = sorted(path.name for path in place.iterdir())
    if names == ["__MACOSX"]:
        return " (this is what macOS adds to an archive; the data lies beside it)"
    for name in names[:50]:
        path = place / name
        if path.is_file() and (reason := impostor_in(path)):
            return f"; {path}: {reason}"
    return f" (received {', '.join(names[:5])}{' …' if len(names) > 5 else ''})" if names else ""


def _form(path: Path) -> str | None:
    """The form of a file by its name; None for no data."""
    name = path.name.lower()
    if name.startswith("."):
        return None
    if idx_files.NAME.fullmatch(name):
        return "idx"
    if name.endswith((".npz", ".npy")):
        return "arrays"
    if name.endswith((".csv", ".csv.gz")):
        return "csv"
    return "parquet" if name.endswith(".parquet") else None


def _stem(path: Path) -> str:
    return path.name.split(".")[0] if _form(path) != "idx" else path.name


def _of_file(path: Path) -> Found:
    """The set that a file is, or belongs to by its name."""
    if archive.is_archive(path):
        return Found("archive", path.name.split(".")[0], path, (path,))
    form = _form(path)
    if form is None:
        raise DataError(f"{path}: {impostor_in(path) or f'expected a data set; {EXPECTED}'}")
    name, split, _ = role(_stem(path))
    if split is None:
        return Found(form, name or path.stem, path, (path,))
    others = (p for p in path.parent.iterdir() if p.is_file() and _form(p) == form)
    files = tuple(sorted(p for p in others if role(_stem(p))[0] == name and role(_stem(p))[1]))
    return Found(form, name or path.resolve().parent.name, path, files)


def _beginning(place: Path) -> Found | None:
    """The set whose files' names begin as `place` does, as `emnist-letters` in EMNIST's folder."""
    if not place.parent.is_dir():
        return None
    asked = role(place.name)[0]
    return next((f for f in _files_in(place.parent) if role(f.name)[0] == asked), None)


def _in_folder(place: Path) -> Iterator[Found]:
    """The sets in a folder and below it."""
    if (found := _by_class(place)) is not None:
        yield found
        return
    for number, (name, inner, _) in enumerate(os.walk(place)):
        if number == MOST_FOLDERS:
            raise DataError(
                f"{place}: expected a data set's folder, received one with more than "
                f"{MOST_FOLDERS:,} folders in it; name the data set's own"
            )
        folder = Path(name)
        inner[:] = sorted(n for n in inner if n != "__MACOSX" and not n.startswith("."))
        if any(map(image_folder.subfolders, image_folder.split_folders(folder).values())):
            inner.clear()
            yield Found("images", _name(folder, place), folder, (folder,))
        if files := _parquet_by_folder(folder):
            inner[:] = [n for n in inner if not role(n)[1]]
            yield Found("parquet", _name(folder, place), folder, files)
        yield from (f._replace(name=f.name or _name(folder, place)) for f in _files_in(folder))


def _by_class(place: Path) -> Found | None:
    """A folder of folders by class, perhaps within others that hold nothing else; else None."""
    folder = place
    while len(inner := image_folder.subfolders(folder)) == 1 and not any(
        _form(path) for path in folder.iterdir()
    ):
        (folder,) = inner.values()
    if image_folder.split_folders(folder) or any(_form(path) for path in folder.iterdir()):
        return None
    if sum(map(image_folder.holds_images, inner.values())) < 2:
        return None
    if any(image_folder.split_folders(path) for path in inner.values()):
        return None
    return Found("images", _name(folder, place), folder, (folder,))


def _files_in(folder: Path) -> Iterator[Found]:
    """The sets whose files lie in a folder: of one form, as IDX before CSV of the same images."""
    sets: dict[tuple[str, str], list[Path]] = {}
    archives = []
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        form = _form(path)
        name, split, _ = role(_stem(path))
        if archive.is_archive(path) and not path.name.startswith("."):
            archives.append(path)
        elif form is None or (form == "csv" and not csv_table.looks_like_images(path)):
            continue
        elif split is not None:
            sets.setdefault((form, name), []).append(path)
        elif form in ("arrays", "csv", "parquet") and path.suffix != ".npy":
            sets.setdefault((form, path.stem), []).append(path)
    for form in ("idx", "arrays", "csv", "parquet"):
        found = {name: files for (kind, name), files in sets.items() if kind == form}
        for name, files in found.items():
            named = role(_stem(files[0]))[1] is not None
            place = folder / name if name and named else files[0]
            yield Found(form, name, folder if len(found) == 1 and named else place, tuple(files))
        if found:
            return
    if len(archives) == 1:
        yield Found("archive", archives[0].name.split(".")[0], archives[0], tuple(archives))


def _parquet_by_folder(folder: Path) -> tuple[Path, ...]:
    """The files in `train/*.parquet`, `test/*.parquet`, as the Hub converts data sets."""
    found = [p for p in sorted(folder.glob("*/*.parquet")) if role(p.parent.name)[1]]
    return tuple(found) if any(role(p.parent.name)[1] == "train" for p in found) else ()


def _name(folder: Path, place: Path) -> str:
    """The name of a set's folder, or of the nearest one around it that says something."""
    folder, place = folder.resolve(), place.resolve()
    named = folder
    while named.name.lower() in DULL and named != place and named.parent != named:
        named = named.parent
    return (named if named.name.lower() not in DULL else folder).name or "data"
