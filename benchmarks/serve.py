"""What `fmnist serve` bears: requests a second and how long they take, alone and amid the hostile.

    python benchmarks/serve.py [--seconds 10] [--model MODEL]

A real server with its usual limits, and clients of one process on the same machine, which share its
processors. Each row is the same load twice: alone, and while others send slow heads and bodies,
bodies that are too large, no HTTP, no images and bombs. Ends with exit code 1 if there was any
answer but those documented, if memory went past what is promised, or if the server answers no more.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from fmnist.serving import bodies, limits

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from server import Server, bomb_of_pixels, head, photo, slow_photos

CONNECTIONS = (1, 16, 256)
CODES = {200, 400, 408, 413, 415, 422, 503}
MEMORY = 2 * limits.ALL_BODIES + 300 * 2**20  # bytes of the server's own process


async def exchange(reader, writer, content):
    """The status of the answer to a request; None where the connection was closed."""
    try:
        writer.write(content)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length:")[2].split()[0])
        await reader.readexactly(length)
        return int(answer.split(b" ", 2)[1])
    except (OSError, EOFError):
        return None


async def client(port, content, until, times, codes):
    """One request after the other on a connection, and a new one where it was closed."""
    while time.perf_counter() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        code = 0
        while code is not None and time.perf_counter() < until:
            begin = time.perf_counter()
            code = await exchange(reader, writer, content)
            codes[code] += 1
            if code == 200:
                times.append(time.perf_counter() - begin)
        writer.close()


async def once(port, content, seconds, codes, pieces=()):
    """A connection that sends one thing, pieces after it, and takes what is answered."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(content)
                answer = asyncio.create_task(reader.read(4096))
                for piece in pieces:
                    if answer.done():
                        break
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(1 if len(piece) == 1 else 0)
                if start := await answer:
                    codes[int(start.split(b" ", 2)[1])] += 1
            finally:
                writer.close()


async def hostile(port, until, codes):
    """All sorts of trouble at once, again and again."""

    def post(content, kind):
        return head(len(content), kind, Connection="close") + content

    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    deep = b"[" * 100_000
    troubles = [
        *[(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: ", [b"a"] * 60)] * 64,  # slow heads
        *[(head(10_000), [b" "] * 60)] * 16,  # slow bodies
        (head(10**9), []),
        (head(None, Transfer_Encoding="chunked"), [chunk] * 400),
        (b"\x16\x03\x01 no HTTP\r\n\r\n", []),
        (post(deep, "application/json"), []),
        (post(b'{"images": [[[NaN]]]}', "application/json"), []),
        (post(photo()[:300], "image/png"), []),
        (post(b"--x\r\n\r\n", "multipart/form-data; boundary=x"), []),
        (post(bomb_of_pixels(), "image/png"), []),
        (post(b'{"images": [' + b"[]," * 1_000_000 + b"[]]}", "application/json"), []),
    ]

    async def repeat(content, pieces, pause):
        while (left := until - time.perf_counter()) > 0:
            await once(port, content, left, codes, pieces)
            await asyncio.sleep(pause)

    kind, content = slow_photos(10)
    scans = post(content, kind)  # takes a decoder for as long as it may
    await asyncio.gather(
        *(repeat(content, pieces, 0.2) for content, pieces in troubles), repeat(scans, [], 30)
    )


async def load(port, content, connections, seconds, amid):
    """Times of the answers, seconds, and counts of all codes: of the friendly and the hostile."""
    times, codes, others = [], collections.Counter(), collections.Counter()
    until = time.perf_counter() + seconds
    tasks = [client(port, content, until, times, codes) for _ in range(connections)]
    if amid:
        tasks.append(hostile(port, until, others))
    await asyncio.gather(*tasks)
    return times, codes, others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--model", help="as of fmnist serve [default: the one in the box]")
    arguments = parser.parse_args()
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28)).tolist()
    as_json = json.dumps({"images": image}).encode()
    as_photo = photo(1200, 1600, "JPEG", quality=85)
    requests = {
        "JSON, 28×28": head(len(as_json)) + as_json,
        "JPEG, 1200×1600": head(len(as_photo), "image/jpeg") + as_photo,
    }
    seen, closed = collections.Counter(), 0
    with Server(arguments.model) as server:
        print(
            f"{'request':<16} {'connections':>11} {'':<7} {'req/s':>7} {'p50 ms':>8} {'p99 ms':>8}"
            "  codes (those of the hostile)"
        )
        for name, content in requests.items():
            for connections in CONNECTIONS:
                for amid in (False, True):
                    times, codes, others = asyncio.run(
                        load(server.port, content, connections, arguments.seconds, amid)
                    )
                    closed += codes.pop(None, 0)
                    seen += codes + others
                    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else [0] * 99
                    hostile_ones = f" ({counts(others)})" if amid else ""
                    print(
                        f"{name:<16} {connections:>11} {'amid' if amid else 'alone':<7} "
                        f"{len(times) / arguments.seconds:>7,.0f} {1000 * cuts[49]:>8.1f} "
                        f"{1000 * cuts[98]:>8.1f}  {counts(codes)}{hostile_ones}",
                        flush=True,
                    )
        last = server.client.post("v1/predict", json={"images": image}).status_code
        own, *decoders = server.memory()
        print(
            f"most memory: {own / 2**20:,.0f} MiB, decoders {max(decoders) / 2**20:,.0f} MiB; "
            f"{closed} connections closed without an answer; a last request: {last}"
        )
    problems = [
        *(f"code {code}" for code in set(seen) - CODES),
        *(["memory of the server"] if own > MEMORY else []),
        *(["memory of a decoder"] if max(decoders) > bodies.MEMORY + 2**27 else []),
        *(["no answer at the end"] if last != 200 else []),
    ]
    sys.exit(f"not as promised: {', '.join(problems)}" if problems else 0)


def counts(codes):
    return " ".join(f"{code}×{count:,}" for code, count in sorted(codes.items())) or "none"


if __name__ == "__main__":
    main()
