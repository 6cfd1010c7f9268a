"""Several processes that read images from requests' bodies, each within a time limit."""

import asyncio
import contextlib
import json
import os
import sys
from typing import Any

import numpy as np

from fmnist.serving.bodies import Bytes, ContentType, Refused

WAIT_SECONDS = 10.0  # for a free process
READ_SECONDS = 10.0  # that one may take for a body


class Reader:
    """A process of `serving.bodies`; started when it is needed, and again after it ended."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Wait until the process is ready, starting it if it is not there."""
        if self._process and self._process.returncode is None:
            return
        self._process = await asyncio.create_subprocess_exec(
            # -P: no file in the working directory is taken for a module
            *(sys.executable, "-P", "-W", "ignore", "-m", "fmnist.serving.bodies"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            process_group=0,  # a terminal's Ctrl-C is for the server
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        if await self._streams()[1].readline() != b"ready\n":
            raise OSError("the process that reads bodies does not start")

    async def read(self, job: dict[str, Any], body: bytes | bytearray) -> Bytes:
        """Images, uint8 (n, height, width). Raises Refused, or what a broken pipe raises."""
        sink, source = self._streams()
        sink.write(json.dumps(job | {"bytes": len(body)}).encode() + b"\n")
        sink.write(body)
        await sink.drain()
        answer = json.loads(await source.readline() or b"null")
        if answer is None:
            raise EOFError
        if "status" in answer:
            raise Refused(answer["status"], answer["detail"])
        height, width = job["shape"]
        pixels = await source.readexactly(answer["images"] * height * width)
        return np.frombuffer(pixels, np.uint8).reshape(-1, height, width)

    async def end(self) -> None:
        """Kill the process if it is there."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def _streams(self) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        return self._process.stdin, self._process.stdout


class Readers:
    """`count` processes that read bodies into images of `shape`, (height, width)."""

    def __init__(self, count: int, shape: tuple[int, int], whole: bool = False) -> None:
        self.shape, self.whole = shape, whole
        self._all = [Reader() for _ in range(count)]
        self._free: asyncio.Queue[Reader] = asyncio.Queue()

    async def start(self) -> None:
        """Start all processes."""
        await asyncio.gather(*(reader.start() for reader in self._all))
        for reader in self._all:
            self._free.put_nowait(reader)

    async def read(self, kind: ContentType, raw: bool, body: bytes | bytearray) -> Bytes:
        """Images, uint8 (n, height, width), of a body, as `bodies.read` finds them.

        Raises Refused as `bodies.read` does; also 503 if no process is ready in time, and 422 if
        decoding takes too long or ends the process.
        """
        job = {"kind": kind, "raw": raw, "shape": self.shape, "whole": self.whole}
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                reader = await self._free.get()
        except TimeoutError:
            raise Refused(503, "no decoder became free in time; try again later") from None
        done = False
        try:
            try:
                await reader.start()
            except OSError:
                raise Refused(503, "no decoder can be started; try again later") from None
            async with asyncio.timeout(READ_SECONDS):
                images = await reader.read(job, body)
            done = True
            return images
        except Refused as error:
            done = error.status != 503
            raise
        except TimeoutError:
            raise Refused(
                422, f"expected a body that decodes within {READ_SECONDS:g} s; make it smaller"
            ) from None
        except (OSError, EOFError):  # IncompleteReadError is an EOFError
            raise Refused(
                422, "expected images, received a body that crashed the decoder; send another file"
            ) from None
        finally:
            if not done:  # also where the request was cancelled: the next must not get its answer
                await reader.end()
            self._free.put_nowait(reader)

    async def end(self) -> None:
        """End all processes."""
        await asyncio.gather(*(reader.end() for reader in self._all))
