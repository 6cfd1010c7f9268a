"""Limits of requests: bytes, seconds and connections, counted on the bytes received.

uvicorn alone waits for a request's head and body for ever. `Connection` ends silent connections.
`receive` refuses bodies that are too large or too slow. Nothing is written to disk.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fmnist.serving.bodies import Refused

CONNECTIONS = 512  # at once, or fewer where a process may have few files: see allow_connections
ACCEPTED_AT_ONCE = 8
SPARE_FILES = 48  # for connections that are refused, decoders that are started anew, the page
UNREAD_SECONDS = 5.0  # a client that takes none of its answer for so long may lose its place
HEAD_BYTES = 16 * 2**10
HEAD_SECONDS = 10.0  # from a connection or the last answer to the end of the next request's head
BODY_BYTES = 16 * 2**20
BODY_SECONDS = 30.0
REQUEST_SECONDS = 300.0  # from a request's head to its answer's last byte
ALL_BODIES = 128 * 2**20  # bytes of all bodies that are in memory
QUEUE = 256  # requests that have a body and no answer yet
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-resource-policy": "same-origin",
    # These two give the page shared memory, which WebAssembly needs for threads.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    # onnxruntime-web compiles WebAssembly; photos are blobs.
    "content-security-policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
        "style-src 'self'; img-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
}
FULL = b'{"detail": "too many connections; try again later"}'
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 2\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(FULL), FULL)
)


def allow_connections() -> None:
    """Let CONNECTIONS be no more than the files that the process may open yet (Linux, macOS)."""
    global CONNECTIONS
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len([*Path("/dev/fd").iterdir()])
    except (ModuleNotFoundError, OSError):  # Windows
        return
    if most != resource.RLIM_INFINITY:
        CONNECTIONS = max(1, min(CONNECTIONS, most - used - SPARE_FILES))


class Connection(H11Protocol):
    """uvicorn's connection, with limits on their time and number.

    When all CONNECTIONS are taken, a new one replaces the one that has been silent longest, among
    those that the server waits for. If it waits for none, it refuses the new one. A client that has
    closed its side after a whole request still gets the answer.
    """

    _unread: float | None = None  # since when the client takes nothing of its answer
    _half_closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept, make room for, or refuse a connection."""
        self._heard = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._timed: Any = None  # the request that the timer is for; None: for the next one's head
        super().connection_made(transport)
        # What was ended in this round is still among them.
        open_ones = [
            each
            for each in self.connections
            if isinstance(each, Connection) and not each.transport.is_closing()
        ]
        if len(open_ones) > CONNECTIONS:
            waiting = [each for each in open_ones if each is not self and each.is_waited_for()]
            if not waiting:
                transport.write(FULL)
                transport.close()
                return
            min(waiting, key=lambda each: each._heard).transport.abort()
        self._watch()

    def is_waited_for(self) -> bool:
        """Whether the server waits for the client."""
        cycle = self.cycle
        if self._unread is not None and self.loop.time() - self._unread > UNREAD_SECONDS:
            return True
        return cycle is None or cycle.response_complete or cycle.more_body

    def pause_writing(self) -> None:
        """Note since when the client takes nothing."""
        self._unread = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has taken most of what was written."""
        self._unread = None
        super().resume_writing()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection of a client that has sent all and waits for its answer."""
        cycle = self.cycle
        self._half_closed = bool(cycle and not (cycle.response_complete or cycle.more_body))
        return self._half_closed

    def data_received(self, data: bytes) -> None:
        """Note the time, and that a request may have begun."""
        self._heard = self.loop.time()
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self._half_closed:
            self.transport.close()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        cycle = self.cycle
        current = None if cycle is None or cycle.response_complete else cycle
        if self._timer and current is self._timed:
            return
        if self._timer:
            self._timer.cancel()
        seconds = HEAD_SECONDS if current is None else REQUEST_SECONDS
        self._timer, self._timed = self.loop.call_later(seconds, self.transport.abort), current


class OneLength:
    """ASGI middleware that refuses a request with two statements of where its body ends.

    What one server takes for the body the next may take for another request (RFC 9112, 6.1), so the
    connection is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass other requests on."""
        names = {name for name, _ in scope.get("headers", [])}
        if not {b"content-length", b"transfer-encoding"} <= names:
            await self.app(scope, receive, send)
            return
        detail = {"detail": "expected content-length or transfer-encoding, received both"}
        answer = JSONResponse(detail, 400, {"connection": "close"})
        await answer(scope, receive, send)


class SecurityHeaders:
    """ASGI middleware that adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with them."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self.headers]
            await send(message)

        await self.app(scope, receive, with_headers)


class Bodies:
    """Receives bodies; counts the bytes that are in memory and the requests that wait."""

    def __init__(self) -> None:
        self.bytes = 0
        self.requests = 0

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytearray]:
        """A request's body, while it is used.

        Entering raises Refused: 408 for a slow body, 413 for a large one, 503 if the server is
        overloaded. It raises ClientDisconnect if the client has gone.
        """
        body = bytearray()
        queued = False
        try:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    await self._fill(body, request)
            except TimeoutError:
                raise Refused(408, f"expected the body within {BODY_SECONDS:g} s") from None
            self._check_queue()
            self.requests += 1
            queued = True
            yield body
        finally:
            self.bytes -= len(body)
            self.requests -= queued

    async def _fill(self, body: bytearray, request: Request) -> None:
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > BODY_BYTES:  # before anything is asked for
            raise self._too_large()
        self._check_queue()
        async for piece in request.stream():
            if len(body) + len(piece) > BODY_BYTES:
                raise self._too_large()
            if self.bytes + len(piece) > ALL_BODIES:
                raise Refused(503, "the server receives too many bytes at once; try again later")
            body += piece
            self.bytes += len(piece)

    def _check_queue(self) -> None:
        if self.requests >= QUEUE:
            raise Refused(503, "too many requests are waiting; try again later")

    def _too_large(self) -> Refused:
        return Refused(413, f"expected a body of at most {BODY_BYTES:,} bytes")
