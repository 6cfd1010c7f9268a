"""A real server, `fmnist serve` in a process of its own, and what a stranger may send to it."""

import contextlib
import io
import json
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import httpx
import numpy as np
from PIL import Image


class Server:
    """`fmnist serve --model MODEL` on a free port, until the context ends.

    Without a model it is the one in the box. `limits` are values for the constants of fmnist's
    modules, as {"serving.limits.HEAD_SECONDS": 1}; `first` is code to begin with.
    """

    def __init__(self, model, limits=None, options=(), first=""):
        code = (
            first
            + "from pathlib import PosixPath, WindowsPath\n"
            + "".join(
                f"import fmnist.{name.rpartition('.')[0]}\nfmnist.{name} = {value!r}\n"
                for name, value in (limits or {}).items()
            )
        )
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                code + "from fmnist.cli.main import main\nmain()",
                "serve",
                *(["--model", str(model)] if model else []),
                "--port",
                "0",
                "--json",
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A test runner in the background ignores Ctrl-C, or under nohup SIGHUP, and so would
            # what it starts.
            preexec_fn=lambda: [
                signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGHUP)
            ],
        )
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1])
        self.address = json.loads(line)["address"]
        self.port = int(self.address.rstrip("/").rpartition(":")[2])
        self.client = httpx.Client(base_url=self.address, timeout=600)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.process.kill()
        self.process.communicate()

    def stop(self, number=signal.SIGTERM):
        """The exit code and what was said on stderr, once stopped by a signal."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self):
        error = self.process.communicate(timeout=600)[1]
        return self.process.returncode, error

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=600)

    def send(self, content):
        """All that is answered to the bytes, until the server closes or is silent for 30 s."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(content)
            return received(connection)

    def post(self, content, content_type, **options):
        headers = {"content-type": content_type}
        return self.client.post("v1/predict", content=content, headers=headers, **options)

    def children(self):
        """The ids of the processes that it has (Linux)."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def memory(self):
        """The most resident bytes of the process, and of each that it has, so far (Linux)."""
        peaks = []
        for pid in (self.process.pid, *self.children()):
            status = Path(f"/proc/{pid}/status").read_text()
            peaks.append(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
        return peaks


def received(connection, seconds=30):
    connection.settimeout(seconds)
    content = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while piece := connection.recv(65536):
            content += piece
    return content


def drip(connection, piece, seconds=300):
    """What is answered while a piece is sent again and again, until the server closes."""
    connection.settimeout(0.05)
    answer, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            connection.sendall(piece)
            got = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return answer
        if not got:
            return answer
        answer += got
    raise AssertionError(f"still open after {seconds} s")


def status(answer):
    return int(answer.split(b" ")[1]) if answer else None


def head(length, content_type="application/json", **more):
    """The head of a POST to /v1/predict."""
    headers = {"Host": "localhost", "Content-Type": content_type} | more
    if length is not None:
        headers["Content-Length"] = length
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(["POST /v1/predict HTTP/1.1", *lines, "", ""]).encode()


def photo(width=120, height=160, form="PNG", **options):
    """An encoded photo of a blue thing on light grey."""
    pixels = np.full((height, width, 3), 240, np.uint8)
    pixels[height // 6 : -height // 8, width // 4 : -width // 5] = (20, 60, 140)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def bomb_of_pixels():
    """A PNG of a few kilobytes whose 900 million pixels would take 2.7 gigabytes."""

    def chunk(name, content):
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def slow_photos(count=4):
    """A content type and a small body within all limits that takes seconds to decode.

    The last scan of a progressive JPEG comes 90 times, and the JPEG `count` times.
    """
    file = io.BytesIO()
    Image.new("L", (5_000, 5_000), 200).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    start = content.rindex(b"\xff\xda")
    content = content[:start] + content[start:-2] * 90 + content[-2:]
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    return "multipart/form-data; boundary=x", (part + content + b"\r\n") * count + b"--x--\r\n"


LINUX = Path("/proc/self/status").exists()
