"""`fmnist predict` and `fmnist serve`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fmnist.cli.options import Json, Model, print_json, say


def predict(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE", help="Image files, folders, patterns or IDX files; - reads stdin."
        ),
    ],
    model: Model = None,
    top: Annotated[
        int, typer.Option("--top", metavar="K", min=1, help="Show the K likeliest classes.")
    ] = 3,
    as_is: Annotated[
        bool,
        typer.Option(
            "--raw", help="Take the images as they are: do not cut the garment out, as for a photo."
        ),
    ] = False,
    show_in: Annotated[
        Path | None,
        typer.Option(
            "--show",
            metavar="DIR|FILE",
            help="Save pictures in this folder: each photo beside the image that the model "
            "received, and the answer. For a single photo it may be a .png file.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each image, on a line.")
    ] = False,
) -> None:
    """Classify photos of clothes.

    It says where it is not sure, and which images do not look like clothes. Use --raw for images
    that already look like those of the data set.
    """
    from fmnist.inference.answers import answer
    from fmnist.inference.classifier import Classifier

    classifier = Classifier.load(model)
    refused = answer(
        classifier, files, top=top, as_is=as_is, show_in=show_in, as_json=as_json, say=say
    )
    if refused:
        raise typer.Exit(1)


def serve(
    model: Model = None,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="Address to listen at; 0.0.0.0: on every network."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, help="Port to listen at; 0: any free port."
        ),
    ] = 8000,
    threads: Annotated[
        int,
        typer.Option(
            "--threads",
            metavar="N",
            min=0,
            help="Threads for the model, and processes that decode images; 0: one for each core.",
        ),
    ] = 0,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="ORIGIN",
            help="Let pages of this site, such as https://example.org, send requests. Repeatable.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve predictions and a web page over HTTP.

    It runs until Ctrl-C.
    """
    from fmnist.serving.server import is_loopback
    from fmnist.serving.server import serve as serve_until_stopped

    def ready(address: str) -> None:
        if as_json:
            print_json({"address": address})
        else:
            print(f"serving at {address} until Ctrl-C")
        sys.stdout.flush()
        if not is_loopback(host):
            say("note: whoever reaches this machine over its network can use the server")

    origins = allow_origin or []
    serve_until_stopped(model, host=host, port=port, threads=threads, origins=origins, ready=ready)
