"""A server that says over HTTP what images show, and hosts the page in `web/`.

Every request goes the same way: its body is received within limits (`limits`), read into images
(`bodies`) by another process (`readers`) unless it is a little JSON, and answered together with
those that came meanwhile, by one call of the model. Nothing is fetched, stored or loaded for a
request.
"""

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import mimetypes
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from fmnist import __version__, limits
from fmnist.bodies import MOST_IMAGES, MOST_PHOTOS, Bytes, Refused, read
from fmnist.errors import RunError, UsageError
from fmnist.files import read_json
from fmnist.predict import SHIPPED, Classifier, energy, usable_processors
from fmnist.readers import Readers
from fmnist.signals import Interrupted, stop_signals

Floats = npt.NDArray[np.float32]

WEB = Path(__file__).parent / "web"
LOCAL = ("localhost", "127.0.0.1", "[::1]")
BATCH = 64  # images of one call of the model, or those of one request
SMALL = 2**16  # bytes of JSON, some 16 images, that are read at once: a millisecond or two
RETRY_SECONDS = 2
DRAIN_SECONDS = 60.0  # for accepted requests, once asked to stop
TYPES = {  # some systems have others, with which a browser refuses them
    ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm",
    ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml",
    ".webp": "image/webp", ".onnx": "application/octet-stream",
    ".webmanifest": "application/manifest+json",
}  # fmt: skip


class ClassProbability(BaseModel):
    """A class and its calibrated probability."""

    class_: str
    probability: float

    model_config = {"alias_generator": lambda name: name.rstrip("_")}


class Prediction(BaseModel):
    """What one image shows."""

    classes: list[ClassProbability]
    unlike: bool
    energy: float
    logits: list[float]
    seen: list[list[int]] | None = None


class Answer(BaseModel):
    """What the images of a request show, in their order."""

    model: str
    predictions: list[Prediction]


class Problem(BaseModel):
    """Why there is no answer, in one line."""

    detail: str


PROBLEMS = {
    400: "No HTTP, another host's name, no JSON or no multipart",
    408: f"The body took more than {limits.BODY_SECONDS:g} s",
    413: "Too many bytes or images",
    415: "Another content type",
    422: "No images as expected, or an option that cannot be",
    503: "Too much at once: again after Retry-After",
}


class Batches:
    """Answers for the images of several requests by one call of the model."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting: asyncio.Queue[tuple[Bytes, asyncio.Future[Any]]] = asyncio.Queue()

    async def run(self, images: Bytes) -> tuple[Floats, Floats]:
        """Logits and probabilities, as of Classifier.run."""
        future: asyncio.Future[tuple[Floats, Floats]] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((images, future))
        return await future

    async def work(self) -> None:
        """Answer for ever: what came during one call of the model is the next one's."""
        while True:
            batch = [await self._waiting.get()]
            count = len(batch[0][0])
            while count < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
                count += len(batch[-1][0])
            try:
                images = np.concatenate([each for each, _ in batch])
                outputs = await asyncio.to_thread(self._classifier.run, images)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            start = 0
            for each, future in batch:
                if not future.done():  # its client may be gone
                    part = slice(start, start + len(each))
                    future.set_result((outputs[0][part], outputs[1][part]))
                start += len(each)


def describe(
    classifier: Classifier, images: Bytes, outputs: tuple[Floats, Floats], seen: bool
) -> dict[str, Any]:
    """The answer for images, (n, height, width), as the JSON of Answer."""
    logits, probabilities = outputs
    order = np.argsort(-probabilities, axis=1, kind="stable").tolist()
    columns = (
        order, probabilities.tolist(), logits.tolist(), energy(logits).tolist(),
        classifier.is_unlike(logits).tolist(), images,
    )  # fmt: skip
    return {
        "model": classifier.name,
        "predictions": [
            {
                "classes": [{"class": classifier.classes[i], "probability": row[i]} for i in best],
                "unlike": unlike,
                "energy": score,
                "logits": raw,
                **({"seen": image.tolist()} if seen else {}),
            }
            for best, row, raw, score, unlike, image in zip(*columns, strict=True)
        ],
    }


def make_app(
    model: Path | None = None, *, threads: int = 0, hosts: Sequence[str] = LOCAL
) -> FastAPI:
    """The application for a model, as Classifier.load takes it.

    `threads` threads of the model and as many processes that decode, 0: one each a processor.
    `hosts` are the names by which a request may call the server, "*" for all: with those of this
    machine alone, no page of another site reaches it by a name that points here.
    Raises RunError for what is no model, and for a card that is another model's.
    """
    path = SHIPPED if model is None else model / "model.onnx" if model.is_dir() else model
    classifier = Classifier.load(path, threads=threads)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    card = _card(path, classifier, digest)
    batches, bodies = Batches(classifier), limits.Bodies()
    readers = Readers(threads or usable_processors(), classifier.shape)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await readers.start()
        work = asyncio.create_task(batches.work())
        yield
        work.cancel()
        await readers.end()

    app = FastAPI(
        title="fmnist",
        summary="What pictures of clothes show",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    app.add_middleware(limits.SecurityHeaders)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        headers = {"retry-after": str(RETRY_SECONDS)} if error.status == 503 else None
        return JSONResponse({"detail": str(error)}, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    @app.post(
        "/v1/predict",
        response_model=Answer,
        responses={
            status: {"description": meaning, "model": Problem}
            for status, meaning in PROBLEMS.items()
        },
        openapi_extra={"requestBody": _request_body(classifier.shape)},
    )
    async def predict(request: Request, raw: bool = False, seen: bool = False) -> Response:
        """Say what images show.

        Photos are brought into the data set's form, unless `raw` says that they have it. With
        `seen` each answer holds the image as the model saw it.
        """
        kind = request.headers.get("content-type", "")
        base = kind.partition(";")[0].strip().lower()
        if base not in ("application/json", "multipart/form-data") and base[:6] != "image/":
            raise Refused(
                415, "expected application/json, multipart/form-data or image/* as content type"
            )
        try:
            async with bodies.receive(request) as body:
                if base == "application/json" and len(body) <= SMALL:
                    images = read(kind, body, classifier.shape, raw)
                else:
                    images = await readers.read(kind, raw, body)
                outputs = await batches.run(images)
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        answer = describe(classifier, images, outputs, seen)
        return Response(
            json.dumps(answer),
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server answers, and with which model."""
        return {"status": "ok", "model": classifier.name}

    @app.get("/v1/model")
    async def model_card() -> dict[str, Any]:
        """The model's card: its classes, how it was made and measured, what it is for."""
        return card

    kept = {
        "/model/model.onnx": (content, TYPES[".onnx"]),
        "/model/card.json": (json.dumps(card).encode(), TYPES[".json"]),
    }
    pages = StaticFiles(directory=WEB, html=True) if WEB.is_dir() else None
    methods = {route.path: route.methods for route in app.routes}  # type: ignore[attr-defined]
    for suffix, kind in TYPES.items():
        mimetypes.add_type(kind, suffix)

    @app.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(request: Request) -> Response:
        path = request.scope["path"]
        if path in methods:
            raise HTTPException(405, headers={"allow": ", ".join(sorted(methods[path]))})
        if path in kept:
            return _kept(request, *kept[path])
        if pages is None:
            raise HTTPException(404)
        response = await pages.get_response(pages.get_path(request.scope), request.scope)
        response.headers["cache-control"] = "no-cache"  # kept, and asked for by its ETag
        return response

    return app


def _kept(request: Request, content: bytes, kind: str) -> Response:
    """A file from memory, or 304 where the client has it."""
    headers = {"etag": f'"{hashlib.sha256(content).hexdigest()}"', "cache-control": "no-cache"}
    tags = request.headers.get("if-none-match", "").replace("W/", "").split(",")
    if headers["etag"] in map(str.strip, tags):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def _card(path: Path, classifier: Classifier, digest: str) -> dict[str, Any]:
    """The card that lies beside a model; where there is none, what the model says of itself."""
    beside = path.with_name("card.json")
    if not beside.is_file():
        return {
            "schema": 1, "name": classifier.name, "file": path.name, "sha256": digest,
            "bytes": path.stat().st_size, "classes": list(classifier.classes),
            "shape": [*classifier.shape, 1], "temperature": classifier.temperature,
        }  # fmt: skip
    card = read_json(beside)
    if card.get("sha256") != digest:
        raise RunError(f"{beside}: expected the card of {path.name}, found another model's")
    return card


def _request_body(shape: tuple[int, int]) -> dict[str, Any]:
    height, width = shape
    row = {
        "type": "array", "minItems": width, "maxItems": width,
        "items": {"type": "integer", "minimum": 0, "maximum": 255},
    }  # fmt: skip
    image = {"type": "array", "minItems": height, "maxItems": height, "items": row}
    example = [[255 if width // 4 <= x < width * 3 // 4 else 0 for x in range(width)]] * height
    photo = {"type": "string", "format": "binary"}
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "additionalProperties": False,
                    "properties": {
                        "images": {
                            "type": "array", "minItems": 1, "maxItems": MOST_IMAGES, "items": image
                        }
                    },
                },
                "example": {"images": [example]},
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {
                            "type": "array", "minItems": 1, "maxItems": MOST_PHOTOS, "items": photo
                        }
                    },
                }
            },
            "image/*": {"schema": photo},
        },
    }  # fmt: skip


def serve(
    model: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int = 0,
    ready: Callable[[str], object] = print,
) -> None:
    """Serve until a signal, then finish what was accepted; `ready` is called with the address.

    `port` 0 is a free one. Raises UsageError for an address that cannot be had, RunError for what
    is no model, Interrupted at the end.
    """
    name = f"[{host}]" if ":" in host else host
    app = make_app(model, threads=threads, hosts=[*LOCAL, name] if _is_loopback(host) else ["*"])
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
        # asyncio does so for sockets that it makes itself; without it answers wait 40 ms for an ACK
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    except (OSError, OverflowError) as error:
        raise UsageError(f"{host}, port {port}: cannot be listened at ({error})") from None
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
