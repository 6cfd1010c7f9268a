"""A server that classifies images over HTTP and hosts the page in `web/`.

Each request takes the same steps. `limits` receives its body within bounds. Another process
(`readers`) reads the images from it (`bodies`), except from a little JSON. One call of the model
then answers it together with the requests that came meanwhile. A request makes the server fetch,
store or load nothing.
"""

import asyncio
import contextlib
import hashlib
import json
import mimetypes
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from fmnist.errors import RunError, UsageError
from fmnist.files import read_json
from fmnist.inference.classifier import WHOLE, Classifier
from fmnist.inference.garments import SEGMENTER
from fmnist.inference.model_file import find_model
from fmnist.serving import limits
from fmnist.serving.batches import Batches
from fmnist.serving.bodies import Refused, content_type, read
from fmnist.serving.readers import Readers
from fmnist.serving.schema import PROBLEMS, Answer, Problem, describe, request_body
from fmnist.system import usable_processors
from fmnist.version import __version__

WEB = Path(__file__).parent / "web"
MOST_THREADS = 4  # for each processor; with each comes a decoder of some 40 MB
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")
LOCAL = ("localhost", "127.0.0.1", "[::1]")
SMALL = 2**16  # bytes of JSON, some 16 images, that are read at once: a millisecond or two
RETRY_SECONDS = 2
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
TYPES = {  # some systems have others, with which a browser refuses them
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".onnx": "application/octet-stream",
    ".webmanifest": "application/manifest+json",
}


def make_app(
    model: Path | None = None,
    *,
    threads: int = 0,
    hosts: Sequence[str] = LOCAL,
    origins: Sequence[str] = (),
) -> FastAPI:
    """The application for a model, as Classifier.load takes it.

    `threads`: threads for the model, and decoder processes; 0: one per processor.
    `hosts`: the host names that a request may use, "*" for all. With the names of this machine
    alone, no other site's page can reach the server by a name that resolves to it.
    `origins`: the sites whose pages may send requests and read the answers, by CORS.
    Raises UsageError for too many threads, RunError for a file that is no model, and for the card
    of another model.
    """
    most = MOST_THREADS * usable_processors()
    if threads > most:
        raise UsageError(
            f"--threads: expected at most {most}, {MOST_THREADS} for each core, received {threads}"
        )
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise UsageError(
                f"--allow-origin: expected a site such as https://example.org, received {origin!r}"
            )
    path = find_model(model)
    classifier = Classifier.load(path, threads=threads)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    card = _card(path, classifier, digest)
    batches, bodies = Batches(classifier), limits.Bodies()
    readers = Readers(threads or usable_processors(), classifier.shape, classifier.whole_photos)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await readers.start()
        work = asyncio.create_task(batches.work())
        yield
        work.cancel()
        await readers.end()

    app = FastAPI(
        title="fmnist",
        summary="Classifies pictures of clothes",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["content-type"],
        )
    app.add_middleware(limits.OneLength)
    app.add_middleware(limits.SecurityHeaders)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        headers = {"retry-after": str(RETRY_SECONDS)} if error.status == 503 else None
        return JSONResponse({"detail": str(error)}, error.status, headers)

    @app.exception_handler(RunError)
    async def failed(_: Request, error: RunError) -> Response:
        return JSONResponse({"detail": str(error)}, 500)

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
        openapi_extra={"requestBody": request_body(classifier.shape)},
    )
    async def predict(request: Request, raw: bool = False, seen: bool = False) -> Response:
        """Classify images.

        Photos are converted to the data set's form; `raw` skips that for images that have it
        already. With `seen` each answer contains the image as the model saw it.
        """
        kind = content_type(request.headers.getlist("content-type"))
        if coding := request.headers.get("content-encoding"):
            raise Refused(415, f"expected a body as it is, received content-encoding {coding[:40]}")
        try:
            async with bodies.receive(request) as body:
                if kind.name == "application/json" and len(body) <= SMALL:
                    images = read(kind, body, classifier.shape, raw)
                else:
                    images = await readers.read(kind, raw, body)
                outputs = await batches.run(images)
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        cut = not (raw or classifier.whole_photos or kind.name == "application/json")
        answer = describe(classifier, images, outputs, seen, cut)
        return Response(
            json.dumps(answer), media_type="application/json", headers={"cache-control": "no-store"}
        )

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Report that the server answers, and the name of its model."""
        return {"status": "ok", "model": classifier.name}

    @app.head("/v1/model", include_in_schema=False)
    @app.get("/v1/model")
    async def model_card() -> dict[str, Any]:
        """The model's card: its classes, training, scores and intended use."""
        return card

    kept = {
        "/model/model.onnx": (content, TYPES[".onnx"]),
        "/model/segmenter.onnx": (SEGMENTER.read_bytes(), TYPES[".onnx"]),
        "/model/card.json": (json.dumps(card).encode(), TYPES[".json"]),
    }
    pages = StaticFiles(directory=WEB, html=True) if WEB.is_dir() else None
    methods: dict[str, set[str]] = {}
    for route in app.routes:
        methods.setdefault(route.path, set()).update(route.methods)  # type: ignore[attr-defined]
    for suffix, kind in TYPES.items():
        mimetypes.add_type(kind, suffix)

    @app.api_route("/{path:path}", methods=METHODS, include_in_schema=False)
    async def file(request: Request) -> Response:
        path = request.scope["path"]
        if path in methods:
            raise HTTPException(405, headers={"allow": ", ".join(sorted(methods[path]))})
        there = path in kept or _has(pages, request)
        if there and request.method not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"allow": "GET, HEAD"})
        if path in kept:
            return _kept(request, *kept[path])
        if not there or pages is None:
            raise HTTPException(404)
        response = await pages.get_response(pages.get_path(request.scope), request.scope)
        response.headers["cache-control"] = "no-cache"  # kept, and asked for by its ETag
        return response

    return app


def _has(pages: StaticFiles | None, request: Request) -> bool:
    """Whether the page has a file of the request's path."""
    try:
        return bool(pages and pages.lookup_path(pages.get_path(request.scope))[1])
    except (OSError, ValueError):  # a name that no file can have
        return False


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
            "schema": 1,
            "name": classifier.name,
            "file": path.name,
            "sha256": digest,
            "bytes": path.stat().st_size,
            "classes": list(classifier.classes),
            "shape": [*classifier.shape, 1],
            "temperature": classifier.temperature,
            "doubt": classifier.doubt,
            "photos": WHOLE if classifier.whole_photos else "cut out",
        }
    card = read_json(beside)
    if card.get("sha256") != digest:
        raise RunError(f"{beside}: expected the card of {path.name}, found another model's")
    if card.get("classes", list(classifier.classes)) != list(classifier.classes):
        raise RunError(f"{beside}: expected the class names that {path.name} has, found others")
    return card
