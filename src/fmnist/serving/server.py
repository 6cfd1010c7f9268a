"""The process that serves: its socket, its signals and its end."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from fmnist.errors import FmnistError, UsageError
from fmnist.serving import limits
from fmnist.serving.app import LOCAL, make_app
from fmnist.signals import Interrupted, stop_signals

DRAIN_SECONDS = 60.0  # for accepted requests, once asked to stop


def serve(
    model: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int = 0,
    origins: Sequence[str] = (),
    ready: Callable[[str], object] = print,
) -> None:
    """Serve until a signal, then finish the accepted requests; a second signal ends those too.

    `ready` gets the address as soon as requests are answered there. `port` 0 chooses a free port.
    The pages of `origins`, such as https://example.org, may send requests. Raises UsageError for an
    address that cannot be used, RunError for a file that is no model, Interrupted at the end.
    """
    if not host:
        raise UsageError(
            "--host: expected an address, received an empty one; 0.0.0.0 is every network's"
        )
    name = f"[{host}]" if ":" in host else host
    hosts = [*LOCAL, name] if is_loopback(host) else ["*"]
    with stop_signals(repeated=True) as caught:
        app = make_app(model, threads=threads, hosts=hosts, origins=origins)
        listener = _listen(host, port)
        address = f"http://{name}:{listener.getsockname()[1]}/"
        if not caught:
            asyncio.run(_until(caught, _server(app), listener, lambda: ready(address)))
    raise Interrupted(caught[0], "stopped")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
        # asyncio does so for sockets that it makes itself; without it answers wait 40 ms for an ACK
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"{host}, port {port}: cannot listen there ({error}); choose another --host or --port"
        ) from None
    return listener


class _Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn would hand them on at its end, with a traceback."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _server(app: FastAPI) -> _Server:
    config = uvicorn.Config(
        app,
        http=limits.Connection,
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=limits.HEAD_BYTES,
        timeout_keep_alive=limits.HEAD_SECONDS,  # type: ignore[arg-type]
        backlog=limits.ACCEPTED_AT_ONCE,
        timeout_graceful_shutdown=DRAIN_SECONDS,  # type: ignore[arg-type]
    )
    return _Server(config)


async def _until(
    caught: list[int], server: _Server, listener: socket.socket, ready: Callable[[], object]
) -> None:
    """Serve until a signal is caught; `ready` is called once requests are answered."""
    serving, told = asyncio.create_task(server.serve(sockets=[listener])), False
    while not serving.done():
        if server.started and not told:
            # asyncio takes as many connections at once as may wait; more may wait than that.
            listener.listen(limits.CONNECTIONS)
            limits.allow_connections()
            ready()
            told = True
        server.should_exit = bool(caught)
        if len(caught) > 1:
            server.force_exit = True
            logging.getLogger("uvicorn.error").disabled = True  # that requests were not finished
        await asyncio.wait([serving], timeout=0.05)
    await serving
    if not caught:
        raise FmnistError("the server ended by itself; start it again")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
