"""A zip or tar archive, unpacked into a temporary folder: nothing leaves it, no link is made."""

import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from fmnist.data.idx import SIZE_LIMIT
from fmnist.data.parts import refuse_impostor
from fmnist.errors import DataError

SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".txz", ".tbz2")
MOST_FILES = 2_000_000
PIECE = 1 << 20


def is_archive(path: Path) -> bool:
    """Whether a file is taken for an archive, by its name."""
    return path.name.lower().endswith(SUFFIXES)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with an archive's files, gone afterwards. Raises DataError.

    What has a path out of the folder is refused; links, devices and macOS' additions are left out.
    No more is written than SIZE_LIMIT bytes, or than half of what the disk has free.
    """
    refuse_impostor(path)
    with tempfile.TemporaryDirectory(prefix="fmnist-") as name:
        folder = Path(name)
        left = min(SIZE_LIMIT, shutil.disk_usage(folder).free // 2)
        try:
            for number, (member, stream) in enumerate(_members(path)):
                if number == MOST_FILES:
                    raise DataError(f"{path}: expected at most {MOST_FILES:,} files, received more")
                left -= _write(path, folder, member, stream, left)
        except DataError:
            raise
        except OSError as error:
            raise DataError(f"{path}: cannot be unpacked ({error.strerror or error})") from None
        except RuntimeError as error:  # what zipfile says of a password
            raise DataError(f"{path}: cannot be unpacked ({error}); unpack it first") from None
        except Exception as error:  # zipfile's, tarfile's and the compressors' own
            raise DataError(f"{path}: a damaged archive ({error}); fetch it anew") from None
        yield folder


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                is_link = (entry.external_attr >> 16) & 0o170000 == 0o120000
                if not entry.is_dir() and not is_link:
                    with archive.open(entry) as stream:
                        yield entry.filename, stream
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and (file := tar.extractfile(member)):
                    yield member.name, file
    else:
        raise DataError(f"{path}: expected a zip or tar archive, received none; fetch it anew")


def _write(path: Path, folder: Path, member: str, stream: IO[bytes], left: int) -> int:
    """Write a member below `folder`; the number of its bytes."""
    inner = PurePosixPath(member.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts or (inner.parts and ":" in inner.parts[0]):
        raise DataError(f"{path}: expected names inside the archive, received {member!r}; refused")
    if "__MACOSX" in inner.parts or any(part.startswith(".") for part in inner.parts):
        return 0
    place = folder.joinpath(*inner.parts)
    place.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with place.open("xb") as file:
        while piece := stream.read(PIECE):
            done += len(piece)
            if done > left:
                raise DataError(
                    f"{path}: expected an archive that unpacks to less, received more than "
                    "there is room for"
                )
            file.write(piece)
    return done
