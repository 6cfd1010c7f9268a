"""The process that serves: its socket, its signals and its end."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from fmnist.errors import UsageError
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
    ready: Callable[[str], object] = print,
) -> None:
    """Serve until a signal, then finish the accepted requests; `ready` gets the address.

    `port` 0 chooses a free port. Raises UsageError for an address that cannot be used, RunError for
    a file that is no model, Interrupted at the end.
    """
    name = f"[{host}]" if ":" in host else host
    app = make_app(model, threads=threads, hosts=[*LOCAL, name] if _is_loopback(host) else ["*"])
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
        # asyncio does so for sockets that it makes itself; without it answers wait 40 ms for an ACK
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"{host}, port {port}: cannot listen there ({error}); choose another --host or --port"
        ) from None
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
        timeout_graceful_shutdown=DRAIN_SECONDS,  # type: ignore[arg-type]
    )
    with stop_signals() as caught:
        ready(f"http://{name}:{listener.getsockname()[1]}/")
        asyncio.run(_until(caught, uvicorn.Server(config), listener))
    raise Interrupted(caught[0] if caught else 15, "stopped")


async def _until(caught: list[int], server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until a signal is caught, by us or by uvicorn, which hands it on at its end."""
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not caught and not serving.done():
        await asyncio.wait([serving], timeout=0.1)
    server.should_exit = True
    await serving


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
