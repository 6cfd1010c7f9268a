"""Fashion-MNIST's files, obtained from the first source whose files match the pinned check sums."""

import errno
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from fmnist.data.fashion_mnist import PINS, Pin, difference, find_idx, read_set
from fmnist.data.idx import IdxFile, read_file
from fmnist.errors import DataError

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes received so far and the bytes expected."""
Report = Callable[[str], None]
"""Called with one line for each source that failed."""


MIRRORS = (
    "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
PACKAGE = "dataset-fashion-mnist"
NO_ROUTE = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT}
CONNECT_SECONDS, READ_SECONDS = 3.0, 10.0
# A host name with many dead addresses, or a resolver that does not answer, costs more than one
# connection's limit, so that the first byte has its own; and one that drips is left in the end.
FIRST_BYTE_SECONDS = 6.0
SLOWEST = 40_000  # bytes a second, on average, below which a mirror is left
PATIENCE_SECONDS = 10.0  # added to the time that a file takes at SLOWEST


def _verified(folder: Path, pins: Mapping[str, Pin]) -> dict[str, IdxFile]:
    if not find_idx(folder):
        raise DataError("not there")
    files = read_set(folder, pins)
    if reason := difference(files, pins):
        raise DataError(reason)
    return files


def cache_folder() -> Path:
    """Where downloads are kept: `fashion-mnist` in the platform's cache folder of fmnist."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("fmnist")) / "fashion-mnist"


def print_line(line: str) -> None:
    """The default report: one line to standard error."""
    print(line, file=sys.stderr, flush=True)


def obtain_set(
    progress: Progress | None = None,
    report: Report = print_line,
    *,
    cache: Path | None = None,
    system: Path = SYSTEM_FOLDER,
    mirrors: Sequence[str] = MIRRORS,
    apt: bool = True,
    pins: Mapping[str, Pin] = PINS,
) -> tuple[Path, dict[str, IdxFile]]:
    """The first source that has the pinned files: its folder and the files, read and verified.

    In order: the cache, the system package's folder (used in place), each mirror, and the Debian
    package (unpacked without root). The last two fill the cache. `report` gets one line for each
    source that fails. A mirror is given up at its first bad file. Good files in the cache are kept.
    Raises DataError if all sources fail.

    Files appear in the cache whole and verified or not at all (a temporary name of its own, then an
    atomic rename), so that any number of processes may fetch at once without a lock: at worst a
    file is fetched twice.
    """
    cache = cache or cache_folder()
    for folder in (cache, system):
        try:
            return folder, _verified(folder, pins)
        except DataError as error:
            report(f"{folder}: {str(error).removeprefix(f'{folder}: ')}")
    fetches: list[tuple[str, Callable[[], None]]] = [
        (urlsplit(mirror).netloc, partial(_fetch_mirror, mirror, cache, pins, progress))
        for mirror in mirrors
    ]
    if apt:
        fetches.append((f"apt-get download {PACKAGE}", partial(_fetch_package, cache, pins)))
    for source, fetch in fetches:
        try:
            try:
                _prepare(cache)
                fetch()
            except OSError as error:
                raise DataError(f"{cache} cannot be written ({error.strerror or error})") from None
            return cache, _verified(cache, pins)
        except DataError as error:
            report(f"{source}: {error}")
    raise DataError(
        "expected Fashion-MNIST from one of its sources, all failed; put its four IDX files into a "
        "folder and name it with --data DIR or FMNIST_DATA"
    )


def _prepare(cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    for left_over in cache.glob(".*.part"):  # of a process that was killed, unless it is at work
        with suppress(FileNotFoundError):
            if time.time() - left_over.stat().st_mtime > 86_400:
                left_over.unlink()


@contextmanager
def _whole(cache: Path, name: str, pins: Mapping[str, Pin]) -> Iterator[BinaryIO]:
    """A temporary file to write; it becomes `name`.gz if it is as pinned, and vanishes if not."""
    handle, path = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=cache)
    temporary = Path(path)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            read = read_file(temporary, None, pins[name].size)
        except DataError as error:
            raise DataError(str(error).replace(path, name)) from None
        if reason := difference({name: read}, pins):
            raise DataError(reason)
        temporary.chmod(0o644)
        temporary.replace(cache / f"{name}.gz")
    finally:
        temporary.unlink(missing_ok=True)


def _is_good(cache: Path, name: str, pins: Mapping[str, Pin]) -> bool:
    try:
        return read_file(cache / f"{name}.gz", None, pins[name].size).sha256 == pins[name].sha256
    except DataError:
        return False


def _fetch_mirror(
    mirror: str, cache: Path, pins: Mapping[str, Pin], progress: Progress | None
) -> None:
    for name, pin in pins.items():
        if not _is_good(cache, name, pins):
            with _whole(cache, name, pins) as file:
                _download(f"{mirror}{name}.gz", file, name, pin.packed_size, progress)


class _Sink:
    """What a download writes into: counts, and refuses bytes past `limit` or after `close`."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.file, self.limit, self.received, self.closed = file, limit, 0, False
        self.lock = threading.Lock()

    def write(self, piece: bytes) -> None:
        with self.lock:
            if self.closed:
                raise DataError("given up")
            if self.received + len(piece) > self.limit:
                raise DataError(f"sends more than the {self.limit:,} bytes allowed")
            try:
                self.received += self.file.write(piece)
            except OSError as error:
                raise DataError(f"cannot be written ({error.strerror or error})") from None

    def flush(self) -> None:
        """Asked for after each piece; once at the end is enough."""

    def close(self) -> None:
        with self.lock:
            self.closed = True


def _download(
    address: str, file: BinaryIO, name: str, size: int, progress: Progress | None
) -> None:
    """Write what `address` serves, about `size` bytes, to `file`; DataError says why not.

    The download runs in a thread of its own, for no timeout of a socket covers the look-up of a
    host's name or a server that sends a byte now and then: past its time it is left behind.
    """
    import pooch
    import requests  # by pooch too, but then on the download's time

    sink = _Sink(file, size + 65_536)  # a distributor's own compression may differ a little
    failures: list[Exception] = []
    responses: list[requests.Response] = []  # pooch leaves them open when a download breaks off
    downloader = pooch.HTTPDownloader(
        chunk_size=1 << 16,
        timeout=(CONNECT_SECONDS, READ_SECONDS),
        headers={"Accept-Encoding": "identity", "User-Agent": "fmnist"},
        hooks={"response": lambda response, **_: responses.append(response)},
    )

    def work() -> None:
        try:
            downloader(address, sink, None)
        except Exception as error:
            failures.append(error)
        finally:
            for response in responses:
                response.close()

    thread = threading.Thread(target=work, daemon=True, name=f"download {name}")
    start = time.monotonic()
    allowed = PATIENCE_SECONDS + size / SLOWEST
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.05)
            if progress:
                progress(name, min(sink.received, size), size)
            elapsed = time.monotonic() - start
            if thread.is_alive() and (
                elapsed > allowed or (elapsed > FIRST_BYTE_SECONDS and not sink.received)
            ):
                raise DataError(f"{name}: too slow ({sink.received:,} bytes in {elapsed:.0f} s)")
    finally:
        sink.close()
    if failures:
        raise DataError(_reason(failures[0], name))
    if progress:
        progress(name, size, size)


def _reason(failure: BaseException, name: str) -> str:
    """Why a download failed, in a few words."""
    import requests

    if isinstance(failure, DataError):
        return f"{name}: {failure}"
    if isinstance(failure, requests.HTTPError) and failure.response is not None:
        return f"{name}: HTTP status {failure.response.status_code}"
    if isinstance(failure, requests.TooManyRedirects):
        return f"{name}: redirects without end"
    if isinstance(failure, requests.exceptions.SSLError):
        return "no secure connection (TLS or certificate failure)"
    if isinstance(failure, requests.ConnectTimeout):
        return f"no route (no answer within {CONNECT_SECONDS:.0f} s)"
    if isinstance(failure, requests.exceptions.ProxyError):
        return "no route (the proxy refuses)"
    cause: BaseException | None = failure
    while cause:  # requests wraps the system's error several times
        if isinstance(cause, socket.gaierror):
            return "no route (host name not found)"
        if isinstance(cause, OSError) and cause.errno in errno.errorcode:
            kind = "no route" if cause.errno in NO_ROUTE else "connection lost"
            return f"{kind} ({os.strerror(cause.errno or 0).lower()})"
        if isinstance(cause, TimeoutError):
            return f"{name}: no answer within {READ_SECONDS:.0f} s"
        cause = cause.__cause__ or cause.__context__
    if isinstance(failure, requests.exceptions.ChunkedEncodingError):
        return f"{name}: the connection broke off"
    return f"{name}: {type(failure).__name__}"


def _fetch_package(cache: Path, pins: Mapping[str, Pin]) -> None:
    """Fill the cache from the Debian package, touching nothing of the system's."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DataError("no apt-get and dpkg-deb on this machine")
    with tempfile.TemporaryDirectory(prefix="fmnist-apt-") as name:
        folder = Path(name)
        options = ["-q", "-o", "Acquire::Retries=0"]
        for scheme in ("http", "https"):
            options += ["-o", f"Acquire::{scheme}::Timeout={READ_SECONDS:.0f}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # apt's own user may not write in here
            options += ["-o", "APT::Sandbox::User=root"]
        try:
            _run(["apt-get", *options, "download", PACKAGE], folder, 300)
        except DataError:
            # Package lists that are empty or stale: fetch our own, which takes no root.
            for part in ("state/lists/partial", "cache/archives/partial"):
                (folder / part).mkdir(parents=True)
            options += ["-o", f"Dir::State={folder}/state", "-o", f"Dir::Cache={folder}/cache"]
            options += ["-o", "Dir::State::status=/var/lib/dpkg/status"]
            _run(["apt-get", *options, "update"], folder, 180)
            _run(["apt-get", *options, "download", PACKAGE], folder, 300)
        (package,) = folder.glob(f"{PACKAGE}_*.deb")
        _run(["dpkg-deb", "-x", package.name, "unpacked"], folder, 120)
        unpacked = folder / "unpacked" / SYSTEM_FOLDER.relative_to("/")
        _verified(unpacked, pins)
        for file, path in find_idx(unpacked).items():
            with _whole(cache, file, pins) as copy, path.open("rb") as original:
                shutil.copyfileobj(original, copy)


def _run(command: list[str], folder: Path, seconds: float) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            timeout=seconds,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"{command[0]} took more than {seconds:.0f} s") from None
    except OSError as error:
        raise DataError(f"{command[0]} does not start ({error.strerror})") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg-deb:"))]
        said.append(f"{command[0]} failed with status {done.returncode}")
        raise DataError(said[0].removeprefix("E: "))
