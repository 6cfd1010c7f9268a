"""Reading IDX files strictly, telling data sets apart, and obtaining them, over real HTTP."""

import gzip
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from idx import idx_bytes, write_idx, write_idx_set
from mirrors import Mirrors, pins_of, serving

from fmnist.cli.loading import progress_bar, recorded_place
from fmnist.data import idx, sources
from fmnist.data.fashion_mnist import PINS, find_idx, read_set
from fmnist.data.idx import read_idx
from fmnist.data.sources import obtain_set
from fmnist.errors import DataError

LABELS = "t10k-labels-idx1-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
IMAGES = "t10k-images-idx3-ubyte"
in_any_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


# --- reading -------------------------------------------------------------------------------------


def reference(content: bytes) -> tuple[int, ...] | None:
    """The shape of a valid IDX file, by an independent reading of the format; None if invalid."""
    if content[:3] != b"\0\0\x08" or content[3:4] not in (b"\x01", b"\x03"):
        return None
    rank = content[3]
    if len(content) < 4 + 4 * rank:
        return None
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    count = 1
    for side in shape:
        count *= side
    small = all(side <= idx.SIDE_LIMIT for side in shape[1:])
    return shape if count and small and count == len(content) - 4 - 4 * rank else None


@in_any_folder
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 50)),
        st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12)),
    ),
    seed=st.integers(0, 99),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_what_is_written_is_read(
    tmp_path: Path, shape: tuple[int, ...], seed: int, suffix: str
) -> None:
    values = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    read = read_idx(write_idx(tmp_path / f"file{suffix}", values))
    assert read.dtype == np.uint8
    assert not read.flags.writeable
    np.testing.assert_array_equal(read, values)


@in_any_folder
@given(data=st.data(), rank=st.sampled_from([1, 3]), gzipped=st.booleans())
def test_a_mutated_file_is_read_exactly_or_refused(
    tmp_path: Path, data: st.DataObject, rank: int, gzipped: bool
) -> None:
    values = np.arange(24, dtype=np.uint8).reshape((24,) if rank == 1 else (2, 3, 4))
    whole = idx_bytes(values)
    content = bytearray(gzip.compress(whole, mtime=0) if gzipped else whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        match data.draw(st.sampled_from(["change", "insert", "delete", "cut"])):
            case "change" if at < len(content):
                content[at] = data.draw(st.integers(0, 255))
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=9))
            case "delete":
                del content[at : at + data.draw(st.integers(1, 9))]
            case "cut":
                del content[at:]
    path = tmp_path / "mutated"
    path.write_bytes(content)
    try:
        read = read_idx(path)
    except DataError:
        assert gzipped or reference(bytes(content)) is None
    else:
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else bytes(content)
        assert reference(plain) == read.shape
        assert idx_bytes(np.asarray(read)) == plain


GOOD = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
PACKED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a header, received 0 bytes"),
        (b"\0\0\x08", "expected a header, received 3 bytes"),
        (b"\0\0\x08\x03\0\0\0\x01", "expected a header"),
        (b"<!DOCTYPE html>", "a web page?"),
        (b"PK\3\4....", "expected an IDX file"),
        (b"\0\0\x0d\x03" + GOOD[4:], "type unsigned byte .08., received float .0d."),
        (b"\0\0\x0b\x03" + GOOD[4:], "received short"),
        (b"\0\0\x08\x02" + GOOD[4:], "expected 3 dimensions .* received 2"),
        (b"\0\0\x08\x01" + GOOD[4:], "expected 3 dimensions .* received 1"),
        (GOOD[:-1], "expected 28 bytes, received 27 bytes: cut short"),
        (GOOD + b"\0", "expected 28 bytes from its header .*, received more"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 0, 2, 2), "at least one value"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 1, 2, 1025) + bytes(2050), "at most 1024 × 1024"),
        (PACKED[:-9], "cut short"),
        (PACKED[:-1], "cut short"),
        (PACKED + b"x", "received more after it"),
        (PACKED + PACKED, "received more after it"),
        (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "damaged gzip file .*incorrect data check"),
        (PACKED[:-4] + b"\0\0\0\0", "damaged gzip file .*incorrect length check"),
        (b"\x1f\x8b" + b"junk" * 9, "damaged gzip file"),
        (gzip.compress(GOOD + b"\0", mtime=0), "received more"),
        (gzip.compress(GOOD[:-1], mtime=0), "received 27 bytes: cut short"),
    ],
)
def test_a_bad_file_gives_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, 3)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path("/dev/zero")):
        with pytest.raises(DataError, match="expected an IDX file, found none"):
            read_idx(path)


HUGE = 2**32 - 1


@pytest.mark.parametrize(
    ("content", "cost"),
    [
        (b"\0\0\x08\x03" + struct.pack(">3I", HUGE, HUGE, HUGE), 1e5),
        (b"\0\0\x08\x03" + struct.pack(">3I", HUGE, 1024, 1024) + bytes(99), 1e5),
        (b"\0\0\x08\x01" + struct.pack(">I", HUGE) + bytes(99), 1e5),  # past the limit
        (b"\0\0\x08\x01" + struct.pack(">I", HUGE - 99) + bytes(99), 1e5),  # within it, and a lie
        (GOOD + bytes(200 << 20), 4e6),  # a bomb behind an honest header
        (bytes(200 << 20), 4e6),  # a bomb without one
    ],
)
@pytest.mark.parametrize("gzipped", [False, True])
def test_a_hostile_file_costs_no_memory(
    tmp_path: Path, content: bytes, cost: float, gzipped: bool
) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(gzip.compress(content, 1) if gzipped else content)
    del content
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Beyond the pieces, what zlib or the stream's buffer take.
    assert peak < cost + 2 * idx.PIECE


def test_a_set_must_agree_with_itself(tmp_path: Path) -> None:
    folder = write_idx_set(tmp_path / "set", train=20, test=10, classes=2)
    assert len(read_set(folder)) == 4
    write_idx(folder / f"{TRAIN_LABELS}.gz", np.zeros(19, np.uint8))
    with pytest.raises(
        DataError, match=r"expected 20 labels, one per image, .* for 19; .* different sets"
    ):
        read_set(folder)
    write_idx(folder / f"{TRAIN_LABELS}.gz", np.zeros(20, np.uint8))
    write_idx(folder / f"{IMAGES}.gz", np.zeros((10, 28, 27), np.uint8))
    with pytest.raises(DataError, match="28 × 28 pixels in train and 28 × 27 in test"):
        read_set(folder)
    (folder / f"{LABELS}.gz").unlink()
    with pytest.raises(DataError, match=f"missing {LABELS}"):
        read_set(folder)


def test_of_two_the_gz_is_read(tmp_path: Path) -> None:
    folder = write_idx_set(tmp_path / "set", train=20, test=10, classes=2)
    (folder / LABELS).write_bytes(b"ignored")
    assert find_idx(folder)[LABELS].suffix == ".gz"
    assert len(read_set(folder)[LABELS].values) == 10


# --- obtaining -----------------------------------------------------------------------------------


@pytest.fixture
def mirrors(tmp_path: Path) -> Iterator[Mirrors]:
    with serving(write_idx_set(tmp_path / "served", train=40, test=20)) as server:
        yield server


@pytest.fixture
def get(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Path | None, list[str]]]:
    """Obtain from the named mirrors: the folder, or None, and the lines of report."""
    monkeypatch.setattr(sources, "FIRST_BYTE_SECONDS", 4.0)
    monkeypatch.setattr(sources, "PATIENCE_SECONDS", 4.0)
    monkeypatch.setattr(sources, "SLOWEST", 1_000_000)

    def get(*names: str, **changed: Any) -> tuple[Path | None, list[str]]:
        lines: list[str] = []
        places: dict[str, Any] = {
            "cache": tmp_path / "cache",
            "system": tmp_path / "absent",
            "mirrors": [mirrors.at(name) for name in names],
            "apt": False,
            "pins": pins_of(mirrors.folder),
        } | changed
        try:
            return obtain_set(None, lines.append, **places)[0], lines
        except DataError:
            return None, lines

    return get


Get = Callable[..., tuple[Path | None, list[str]]]


def test_a_good_mirror_fills_the_cache_once(tmp_path: Path, mirrors: Mirrors, get: Get) -> None:
    steps: list[tuple[str, int, int]] = []
    lines: list[str] = []
    folder, _ = obtain_set(
        lambda *step: steps.append(step),
        lines.append,
        cache=tmp_path / "cache",
        system=tmp_path / "absent",
        mirrors=[mirrors.at("good")],
        apt=False,
        pins=pins_of(mirrors.folder),
    )
    assert folder == tmp_path / "cache"
    assert lines == [f"{folder}: not there", f"{tmp_path / 'absent'}: not there"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.gz" for name in PINS)
    assert {name for name, _, _ in steps} == set(PINS)
    assert all(0 <= done <= total for _, done, total in steps)
    assert steps[-1][1] == steps[-1][2]
    assert get("good") == (folder, [])  # from the cache, without a word
    assert len(mirrors.requests) == 4


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        ("absent", f"{LABELS}: HTTP status 404"),
        ("page", "a web page?"),
        ("short", f"{LABELS}: the connection broke off"),
        ("shorter", "the gzip file is cut short"),
        ("reset", "connection lost|broke off"),
        ("endless", f"{LABELS}: sends more than the 65,... bytes allowed"),
        ("drip", f"{LABELS}: too slow"),
        ("silent", f"{LABELS}: too slow .0 bytes in . s"),
        ("loop", f"{LABELS}: redirects without end"),
        ("changed", f"unknown content: {LABELS} has sha256 .*…, expected .*…"),
    ],
)
def test_a_bad_mirror_is_left_at_once_for_a_good_one(
    tmp_path: Path, mirrors: Mirrors, get: Get, mirror: str, message: str
) -> None:
    start = time.monotonic()
    folder, lines = get(mirror, "good")
    assert time.monotonic() - start < 30
    assert folder == tmp_path / "cache"
    assert len(lines) == 3  # the cache, the system's folder and the bad mirror
    assert lines[2].startswith(f"127.0.0.1:{mirrors.server_port}: ")
    assert "\n" not in lines[2]
    assert str(tmp_path) not in lines[2]
    assert re.search(message, lines[2])
    assert {r for r in mirrors.requests if f"/{mirror}/" in r} == {f"/{mirror}/{LABELS}.gz"}
    assert not list(folder.glob(".*"))


def test_plain_mnist_from_a_mirror_is_refused_by_name(get: Get) -> None:
    folder, lines = get("other", pins=PINS)
    assert folder is None
    assert "this is plain MNIST" in lines[-1]


def test_no_route_and_no_such_host_take_no_time(tmp_path: Path, get: Get) -> None:
    with Mirrors(tmp_path) as closed:
        refused = closed.at("good")
    start = time.monotonic()
    folder, lines = get(mirrors=[refused, "http://no-such-host.invalid/"])
    assert time.monotonic() - start < 30
    assert folder is None
    assert lines[2].endswith(": no route (connection refused)")
    assert lines[3].startswith("no-such-host.invalid: ")
    assert not list((tmp_path / "cache").iterdir())


def test_good_files_are_kept_and_bad_ones_replaced(
    tmp_path: Path, mirrors: Mirrors, get: Get
) -> None:
    mirrors.missing = {f"{IMAGES}.gz"}
    folder, lines = get("half")
    assert folder is None
    assert lines[-1].endswith(f"{IMAGES}: HTTP status 404")
    cache = tmp_path / "cache"
    (cache / f"{LABELS}.gz").write_bytes(b"damaged later")
    stale = cache / f".{IMAGES}.killed.part"  # as a killed process leaves it
    stale.write_bytes(b"half a file")
    os.utime(stale, (0, 0))
    mirrors.requests.clear()
    folder, lines = get("good")
    assert folder == cache
    wanted = (LABELS, IMAGES, "train-images-idx3-ubyte")
    assert mirrors.requests == [f"/good/{name}.gz" for name in wanted]
    assert not stale.exists()


def test_the_system_folder_is_used_in_place(tmp_path: Path, mirrors: Mirrors, get: Get) -> None:
    folder, lines = get(system=mirrors.folder)
    assert folder == mirrors.folder
    assert lines == [f"{tmp_path / 'cache'}: not there"]
    assert not (tmp_path / "cache").exists()
    write_idx_set(mirrors.folder, train=40, test=20, seed=1)
    folder, lines = get(system=mirrors.folder, pins=PINS)
    assert folder is None
    assert "unknown content" in lines[1]


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path, get: Get) -> None:
    (tmp_path / "file").write_text("in the way")
    folder, lines = get("good", cache=tmp_path / "file" / "cache")
    assert folder is None
    assert len(lines) == 3
    assert "cannot be written (Not a directory)" in lines[-1]


def test_a_bar_shows_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with progress_bar() as progress:
        assert progress is None  # pytest's standard error is no terminal
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress_bar() as progress:
            assert progress
            progress(LABELS, 2_000, 5_000)
            progress(LABELS, 5_000, 5_000)
        monkeypatch.undo()
        shown = b""
        while select.select([master], [], [], 0.2)[0]:  # it may come in parts
            shown += os.read(master, 1 << 16)
    os.close(master)
    assert LABELS in shown.decode()
    assert "5.0" in shown.decode()


def test_processes_may_fetch_at_once(tmp_path: Path, mirrors: Mirrors) -> None:
    program = (
        "import sys; from pathlib import Path; from fmnist.data.fashion_mnist import Pin\n"
        "from fmnist.data.sources import obtain_set\n"
        f"print(obtain_set(cache=Path({str(tmp_path / 'cache')!r}), system=Path('/absent'),"
        f" mirrors=[{mirrors.at('good')!r}], apt=False, pins={pins_of(mirrors.folder)!r})[0])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in running:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert out.strip() == str(tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_killed_while_fetching_it_leaves_nothing_where_data_belongs(
    tmp_path: Path, mirrors: Mirrors, get: Get
) -> None:
    program = (
        "from pathlib import Path; from fmnist.data.fashion_mnist import Pin\n"
        "from fmnist.data.sources import obtain_set\n"
        f"obtain_set(cache=Path({str(tmp_path / 'cache')!r}), system=Path('/absent'),"
        f" mirrors=[{mirrors.at('drip')!r}], apt=False, pins={pins_of(mirrors.folder)!r})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    while not mirrors.requests:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)  # some bytes have come
    process.kill()
    process.wait()
    names = {path.name for path in mirrors.folder.iterdir()}
    assert not names & {path.name for path in (tmp_path / "cache").rglob("*")}
    place, _ = get("good")
    assert place == tmp_path / "cache"
    assert {path.name for path in place.iterdir()} >= names


def test_when_all_sources_fail_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"one of its sources, all failed; .* --data DIR or FMNIST_DATA"
    ):
        obtain_set(None, print, cache=tmp_path / "c", system=tmp_path / "s", mirrors=[], apt=False)


def test_without_apt_it_says_so(tmp_path: Path, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    folder, lines = get(apt=True)
    assert folder is None
    assert lines[-1] == (
        "apt-get download dataset-fashion-mnist: no apt-get and dpkg-deb on this machine"
    )


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt-get on this machine")
@pytest.mark.parametrize("lists", ["as they are", "empty"])
def test_the_debian_package_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: str
) -> None:
    if lists == "empty":
        (tmp_path / "lists" / "partial").mkdir(parents=True)
        (tmp_path / "apt.conf").write_text(f'Dir::State::lists "{tmp_path}/lists";\n')
        monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    lines: list[str] = []
    try:
        folder, _ = obtain_set(
            report=lines.append, cache=tmp_path / "cache", system=tmp_path / "absent", mirrors=[]
        )
    except DataError:
        pytest.skip(f"no package to be had here: {lines[-1]}")
    assert folder == tmp_path / "cache"
    assert len(list(folder.iterdir())) == 4


def test_where_a_runs_data_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FMNIST_DATA", raising=False)
    mine = {"name": "mine", "folder": str(tmp_path)}
    assert recorded_place(mine, None) == tmp_path
    assert recorded_place(mine, Path("asked")) == Path("asked")
    gone = mine | {"folder": str(tmp_path / "gone")}
    assert recorded_place(gone, None) == tmp_path / "gone"  # whose error names it
    assert recorded_place(gone | {"name": "fashion-mnist"}, None) is None
    in_hand = {"name": "arrays", "folder": ""}
    with pytest.raises(DataError, match="expected --data, since the run was trained on arrays"):
        recorded_place(in_hand, None)
    monkeypatch.setenv("FMNIST_DATA", str(tmp_path))
    assert recorded_place(gone, None) is None  # FMNIST_DATA says where it is now
    assert recorded_place(in_hand, None) is None
