"""Mirrors of a data set on loopback, good ones and such as misbehave."""

import gzip
import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from idx import idx_bytes

from fmnist.data.fashion_mnist import PINS, Pin

MNIST_TEST_COUNTS = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)


def pins_of(folder: Path) -> dict[str, Pin]:
    """The pins under which the set in `folder` is the right one."""
    pins = {}
    for name in PINS:
        packed = (folder / f"{name}.gz").read_bytes()
        content = gzip.decompress(packed)
        pins[name] = Pin(hashlib.sha256(content).hexdigest(), len(content), len(packed))
    return pins


class Mirrors(ThreadingHTTPServer):
    """Mirrors on loopback, one a first path part: `good` serves `folder`, the others misbehave."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.requests, self.over = folder, list[str](), threading.Event()
        self.missing = set[str]()  # files that `half` has not

    def at(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}/"


class Handler(BaseHTTPRequestHandler):
    server: Mirrors

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: bytes, *, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        _, mirror, name = self.path.split("/")
        content = (self.server.folder / name).read_bytes()
        match mirror:
            case "good":
                self.answer(200, content)
            case "half":
                found = name not in self.server.missing
                self.answer(200 if found else 404, content if found else b"")
            case "page":
                self.answer(200, b"<!DOCTYPE html><title>Welcome to our hotel</title>")
            case "short":
                self.answer(200, content[: len(content) // 2], length=len(content))
            case "shorter":  # cut, and its length says so
                self.answer(200, content[: len(content) // 2])
            case "endless":
                self.send_response(200)
                self.end_headers()
                while not self.server.over.is_set():
                    self.wfile.write(bytes(1 << 16))
            case "drip":
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                for byte in content:
                    if self.server.over.wait(0.1):
                        break
                    self.wfile.write(bytes([byte]))
            case "slow":  # each file takes a second, which is fast enough
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                for i in range(20):
                    self.wfile.write(content[len(content) * i // 20 : len(content) * (i + 1) // 20])
                    if self.server.over.wait(0.05):
                        break
            case "reset":  # half of it, then the connection is torn down
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                self.close_connection = True
            case "silent":
                self.server.over.wait(600)
            case "loop":
                self.send_response(302)
                self.send_header("Location", self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "other":
                other = np.repeat(np.arange(10, dtype=np.uint8), MNIST_TEST_COUNTS)
                self.answer(200, gzip.compress(idx_bytes(other)))
            case "changed":
                altered = bytearray(gzip.decompress(content))
                altered[-1] ^= 1
                self.answer(200, gzip.compress(bytes(altered)))
            case _:
                self.answer(404, b"")

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client left, as it should
            super().handle()


@contextmanager
def serving(folder: Path) -> Iterator[Mirrors]:
    """Mirrors of the set in `folder`, until the end of the block."""
    with Mirrors(folder) as server:
        thread = threading.Thread(target=partial(server.serve_forever, 0.02))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
