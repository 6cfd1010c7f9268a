"""What `fmnist predict` is given: image files, folders, patterns, IDX files, standard input.

Each is read by itself: what is refused says so in one line and keeps no other from its answer.
"""

import contextlib
import glob
import io
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fmnist.data.idx import images_in_pieces
from fmnist.data.image_file import LARGEST_FILE, SUFFIXES, Bytes, PhotoError, decode
from fmnist.errors import DataError, FmnistError
from fmnist.inference.photos import is_in_form, prepare, raw

if TYPE_CHECKING:
    from PIL import Image

LOOKED_AT = (*SUFFIXES, "images-idx3-ubyte", "images-idx3-ubyte.gz")  # of the files in a folder
IDX, GZIP = b"\0\0\x08", b"\x1f\x8b"  # what IDX files begin with
LARGEST_STDIN = 256 * 2**20  # bytes
IDX_AT_ONCE = 1024  # images of an IDX file
LARGE = 8_000_000  # pixels, of which several images at once would take gigabytes
_large = threading.Lock()
AT_ONCE = 64  # files read before the model answers for them
KEPT = 280  # pixels of the longest side of a photo that is kept to be shown


class Given(NamedTuple):
    """An image for the model: its name, its pixels, and a small version of the photo.

    `as_it_is`: it was in the data set's form already, by its size and its border. `file`: the IDX
    file that it is one of, with which its name begins.
    """

    name: str
    pixels: Bytes
    photo: "Image.Image | None" = None
    as_it_is: bool = False
    file: str = ""


def read(
    words: Sequence[str],
    shape: tuple[int, int],
    refuse: Callable[[str], None],
    note: Callable[[str], None],
    *,
    as_is: bool,
    whole: bool,
    keep: bool,
    threads: int,
) -> Iterator[list[Given]]:
    """The images that `words` name, some at a time, each uint8 of `shape` (height, width).

    A word is a file, a folder, a pattern such as `*.jpg`, or `-` for standard input. Photos are
    prepared unless `as_is`, with their surroundings where `whole`; IDX images are in the data set's
    form already. `refuse` gets a line for each refused image, `note` one for each image that is in
    the data set's form already, and for the files in a folder that are no images. With `keep`, a
    small version of each photo is kept.
    """
    found = _sources(words, refuse, note)
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(found, AT_ONCE)):
            given: list[Given] = []
            for each in pool.map(lambda path: _read(path, shape, as_is, whole, keep), some):
                if isinstance(each, str):
                    refuse(each)
                    continue
                if isinstance(each, Iterator):  # an IDX file: a piece of it at a time
                    yield given
                    given = []
                    try:
                        yield from each
                    except FmnistError as error:
                        refuse(str(error))
                    continue
                given += each
                for one in each:
                    if one.as_it_is:
                        note(f"{one.name}: {shape[1]} × {shape[0]} on black: taken as it is")
            yield given


def _sources(
    words: Sequence[str], refuse: Callable[[str], None], note: Callable[[str], None]
) -> Iterator[str]:
    """The files, in the order of the words and by name within each."""
    for word in words:
        if word == "-" or os.path.lexists(word):
            places = [word]
        else:
            places = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 (absolute ones too)
            if not places:
                refuse(f"{word}: expected a file or folder of images, found none")
        for place in places:
            if place != "-" and Path(place).is_dir():
                yield from _in_folder(place, refuse, note)
            else:
                yield place


def _in_folder(
    folder: str, refuse: Callable[[str], None], note: Callable[[str], None]
) -> Iterator[str]:
    found = [
        str(Path(place, name))
        for place, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    ]
    paths = sorted(name for name in found if name.lower().endswith(LOOKED_AT))
    others = [name for name in found if not name.lower().endswith(LOOKED_AT)]
    if others:
        kinds = Counter(Path(name).suffix.lower() or "no ending" for name in others)
        listed = ", ".join(f"{kind} ({n:,})" for kind, n in sorted(kinds.items()))
        note(f"{folder}: {len(others):,} other files are passed over: {listed}")
    if not paths:
        refuse(f"{folder}: expected images in the folder, found none")
    yield from paths


def _read(
    source: str, shape: tuple[int, int], as_is: bool, whole: bool, keep: bool
) -> list[Given] | Iterator[list[Given]] | str:
    """A source's image, those of an IDX file as they are asked for, or why it is refused."""
    try:
        if source == "-":
            content = sys.stdin.buffer.read(LARGEST_STDIN + 1)
            if len(content) > LARGEST_STDIN:
                raise PhotoError(f"expected at most {LARGEST_STDIN:,} bytes, received more")
            if content.startswith((IDX, GZIP)):
                return _from_stdin(source, content, shape)
        else:
            path = Path(source)
            if not path.is_file():  # a pipe in a folder, say, which would be waited for
                raise PhotoError("expected a file, found something else")
            with path.open("rb") as stream:
                content = stream.read(len(IDX))
                if content.startswith((IDX, GZIP)):
                    return _from_idx(source, path, shape)
                content += stream.read(LARGEST_FILE)
        with _alone(content):
            image = decode(content)
            prepared = not as_is and is_in_form(image, shape, whole=whole)
            pixels = raw(image, shape) if as_is else prepare(image, shape, whole=whole)
            if keep:
                image.thumbnail((KEPT, KEPT))
            photo = image if keep else None
            del image  # before the next very large one is read
        return [Given(source, pixels, photo, prepared)]
    except OSError as error:
        return f"{source}: cannot be read ({error.strerror or error})"
    except FmnistError as error:
        return f"{source}: {error}"


def _alone(content: bytes) -> contextlib.AbstractContextManager[object]:
    """What a photo is read under: a very large one is read when no other very large one is."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            large = image.width * image.height > LARGE
    except Exception:  # `decode` says what it is
        large = False
    return _large if large else contextlib.nullcontext()


def _from_stdin(source: str, content: bytes, shape: tuple[int, int]) -> Iterator[list[Given]]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield from _from_idx(source, Path(file.name), shape)


def _from_idx(source: str, path: Path, shape: tuple[int, int]) -> Iterator[list[Given]]:
    """Raises PhotoError."""
    done = 0
    try:
        for images in images_in_pieces(path, IDX_AT_ONCE, shape):
            yield [
                Given(f"{source}[{done + i}]", image, file=source) for i, image in enumerate(images)
            ]
            done += len(images)
    except DataError as error:
        raise PhotoError(f"{source}: {str(error).removeprefix(f'{path}: ')}") from None
