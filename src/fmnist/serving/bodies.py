"""The images in a request's body, read in a process of its own: `python -m fmnist.serving.bodies`.

What a stranger sends is parsed and decoded here, and in the process that serves no more than a
little JSON. A body that takes too long, too much memory or the process down with it is that
request's affair alone: the process is ended and another takes its place, see `readers`.
"""

import contextlib
import json
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fmnist.data.image_file import PhotoError, decode
from fmnist.errors import FmnistError
from fmnist.inference.photos import prepare
from fmnist.inference.photos import raw as as_it_is
from fmnist.system import limit_memory

Bytes = npt.NDArray[np.uint8]
MOST_IMAGES = 256  # of one request
MOST_PHOTOS = 32
LARGEST_PHOTO = 25_000_000  # pixels
LONGEST = 60  # seconds of a body, after which the process ends itself if nobody else does
# A type and parameters in the signs of RFC 9110, 8.3; blanks and tabs alone stand between them.
CONTENT_TYPE = re.compile(
    r"[ \t]*([\w!#$%&'*+.^`|~-]+/[\w!#$%&'*+.^`|~-]+)[ \t]*(;[\t -~]*)?", re.A
)
MEMORY = 2**30  # bytes of its own that the process may take; 25 million pixels need a third of it


class Refused(FmnistError):
    """A refused body, with the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ContentType(NamedTuple):
    """A content type, read once: all that decide by it get this."""

    name: str  # application/json, multipart/form-data or image/...
    boundary: str = ""


def content_type(headers: Sequence[str]) -> ContentType:
    """The content type that a request's headers of that name state. Raises Refused."""
    match = CONTENT_TYPE.fullmatch(headers[0]) if len(headers) == 1 else None
    name = match[1].lower() if match else ""
    if name not in ("application/json", "multipart/form-data") and not name.startswith("image/"):
        raise Refused(
            415, "expected application/json, multipart/form-data or image/* as content type"
        )
    if name != "multipart/form-data":
        return ContentType(name)
    _, options = parse_options_header(headers[0])
    return ContentType(name, options.get(b"boundary", b"").decode("latin-1"))


def read(
    kind: ContentType,
    body: bytes | bytearray,
    shape: tuple[int, int],
    raw: bool,
    whole: bool = False,
) -> Bytes:
    """The images in a body, uint8 (n, height, width) of `shape`, in the data set's form.

    application/json holds them as arrays; image/* is one photo and multipart/form-data several,
    each in parts named file. Photos with `raw` are in the data set's form already; `whole` is as
    for `photos.prepare`. Raises Refused.
    """
    if kind.name == "application/json":
        return _from_json(body, shape)
    several = kind.name == "multipart/form-data"
    photos = _parts(body, kind.boundary.encode("latin-1")) if several else [bytes(body)]
    images = []
    for number, content in enumerate(photos, 1):
        try:
            image = decode(content, LARGEST_PHOTO)
            images.append(as_it_is(image, shape) if raw else prepare(image, shape, whole=whole))
        except PhotoError as error:
            which = f"image {number}: " if len(photos) > 1 else ""
            raise Refused(422, f"{which}{error}") from None
    return np.stack(images)


def _from_json(body: bytes | bytearray, shape: tuple[int, int]) -> Bytes:
    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not allowed in JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key appears twice")
        return dict(pairs)

    try:
        value = json.loads(body, parse_constant=refuse, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise Refused(400, f"expected JSON ({error})") from None
    height, width = shape
    form = f"images of {height} rows of {width} whole numbers from 0 to 255"
    if not isinstance(value, dict) or set(value) != {"images"}:
        raise Refused(422, f'expected {{"images": [...]}}, {form}')
    images = value["images"]
    if not isinstance(images, list) or not images:
        raise Refused(422, f"images: expected a list of {form}")
    if len(images) > MOST_IMAGES:
        raise Refused(422, f"expected at most {MOST_IMAGES} images, received {len(images):,}")
    for number, image in enumerate(images, 1):
        if not _is_grid(image, shape):
            raise Refused(422, f"image {number}: expected {form}")
    return np.array(images, np.uint8)


def _is_grid(image: Any, shape: tuple[int, int]) -> bool:
    """Whether it is a list of rows, of whole numbers that fit in a byte and not of booleans.

    To JSON Schema 7.0 is a whole number too.
    """
    return (
        isinstance(image, list)
        and len(image) == shape[0]
        and all(isinstance(row, list) and len(row) == shape[1] for row in image)
        and {type(value) for row in image for value in row} <= {int, float}
        and all(min(row) >= 0 and max(row) <= 255 for row in image)
        and all(value == int(value) for row in image for value in row)
    )


def _parts(body: bytes | bytearray, boundary: bytes) -> list[bytes]:
    """The contents of the parts named file of multipart/form-data, in memory."""
    parts: list[bytearray] = []
    headers: dict[bytes, bytes] = {}
    name, value = bytearray(), bytearray()
    ended = False

    def end_header() -> None:
        headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def begin() -> None:
        headers.clear()

    def end_headers() -> None:
        _, about = parse_options_header(headers.get(b"content-disposition", b""))
        if about.get(b"name") != b"file":
            raise Refused(422, "expected parts named file, as of curl -F file=@photo.jpg")
        if len(parts) == MOST_PHOTOS:
            raise Refused(422, f"expected at most {MOST_PHOTOS} files")
        parts.append(bytearray())

    def end() -> None:
        nonlocal ended
        ended = True

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin,
                "on_header_field": lambda data, first, last: name.extend(data[first:last]),
                "on_header_value": lambda data, first, last: value.extend(data[first:last]),
                "on_header_end": end_header,
                "on_headers_finished": end_headers,
                "on_part_data": lambda data, first, last: parts[-1].extend(data[first:last]),
                "on_end": end,
            },
        )
        if not boundary:
            raise Refused(400, "expected a boundary in the content type of multipart/form-data")
        parser.write(bytes(body))
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, f"expected multipart/form-data ({error})") from None
    if not ended:
        raise Refused(400, "expected multipart/form-data, received a body that is cut short")
    if not parts:
        raise Refused(422, "expected at least one part named file")
    return [bytes(part) for part in parts]


# the process


def main() -> None:
    """Answer for bodies on standard input until it ends: a JSON line each, and bytes after it."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # for the server, which finishes what it accepted
        with contextlib.suppress(AttributeError, ValueError):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    limit_memory(MEMORY)
    from PIL import Image

    Image.init()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a library's print must not look like an answer
    sink.write(b"ready\n")
    sink.flush()
    while line := source.readline():
        job = json.loads(line)
        if hasattr(signal, "alarm"):  # not on Windows; for a server that was killed meanwhile
            signal.alarm(LONGEST)
        answer, images = _answer(job, source.read(job["bytes"]))
        sink.write(json.dumps(answer).encode() + b"\n" + images)
        sink.flush()
        if hasattr(signal, "alarm"):
            signal.alarm(0)


def _answer(job: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    shape = (job["shape"][0], job["shape"][1])
    try:
        images = read(ContentType(*job["kind"]), body, shape, job["raw"], job["whole"])
        return {"images": len(images)}, images.tobytes()
    except Refused as error:
        return {"status": error.status, "detail": str(error)}, b""
    except MemoryError:
        return {"status": 413, "detail": "needs too much memory; make it smaller"}, b""


if __name__ == "__main__":
    main()
