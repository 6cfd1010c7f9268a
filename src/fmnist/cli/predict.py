"""`fmnist predict` and `fmnist serve`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fmnist.cli.options import Json, print_json, say


def predict(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Images, folders, patterns, IDX files; - is stdin."),
    ],
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="MODEL", help="An .onnx file or a folder that holds one."),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="How many classes.")] = 3,
    as_is: Annotated[
        bool, typer.Option("--raw", help="The images are in the data set's form, no photos.")
    ] = False,
    show_in: Annotated[
        Path | None,
        typer.Option(
            "--show",
            metavar="DIR|FILE",
            help="Write pictures of each photo beside what the model saw; FILE.png for one.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object an image, a line each.")
    ] = False,
) -> None:
    """Say what photos of clothes show, or images in the data set's form."""
    from fmnist.inference.answers import answer
    from fmnist.inference.classifier import Classifier

    classifier = Classifier.load(model)
    refused = answer(
        classifier, files, top=top, as_is=as_is, show_in=show_in, as_json=as_json, say=say
    )
    if refused:
        raise typer.Exit(1)


def serve(
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="MODEL", help="An .onnx file or a folder that holds one."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0: everywhere.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="0: one that is free.")
    ] = 8000,
    threads: Annotated[
        int,
        typer.Option("--threads", metavar="N", min=0, help="Of the model, and to decode; 0: all."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Say over HTTP what images show, and host the page to try it, until Ctrl-C."""
    from fmnist.serving.server import serve as serve_until_stopped

    def ready(address: str) -> None:
        if as_json:
            print_json({"address": address})
        else:
            print(f"serving at {address} until Ctrl-C")
        sys.stdout.flush()

    serve_until_stopped(model, host=host, port=port, threads=threads, ready=ready)
