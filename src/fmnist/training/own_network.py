"""Takes a network of the user's own: a Keras model, or a Python file that builds one."""

import contextlib
import dataclasses
import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from fmnist.engine import keras
from fmnist.engine.architecture import Network, describe
from fmnist.engine.networks import Shape
from fmnist.engine.networks.own import first_line
from fmnist.errors import FmnistError, UsageError
from fmnist.recipes.recipe import Recipe
from fmnist.system import print_message


def with_network(recipe: Recipe, network: Network, shape: Shape, classes: int) -> Recipe:
    """The recipe for another network, which is described as `architecture.describe` does."""
    name = f"{recipe.name.removesuffix('+own')}+own"
    updates = getattr(getattr(network, "optimizer", None), "iterations", 0)
    if isinstance(network, keras.Model) and int(updates) > 0:
        print_message("note: network: its weights are not taken: training draws new ones")
    options = describe(network, shape, classes)
    first = next((c for c in _classes(options.architecture) if c != "InputLayer"), "")
    if first in ("Rescaling", "Normalization"):
        print_message(
            f"note: network: begins with {first}, and images come standardised already, with a "
            "mean of 0 and a deviation of 1; leave it out"
        )
    return dataclasses.replace(recipe, name=name, model="own", options=options)


def _classes(architecture: str) -> list[str]:
    """The kinds of a network's layers, in their order."""
    return [layer["class_name"] for layer in json.loads(architecture)["config"]["layers"]]


def from_file(path: Path) -> Callable[[Shape, int], keras.Model]:
    """The `build(shape, classes)` of a Python file, which runs now, in this process.

    Raises UsageError where there is none, and for an error in the file, also when `build` is called
    later.
    """
    with _errors_named(path):
        found = runpy.run_path(str(path))
    build = found.get("build")
    if not callable(build):
        raise UsageError(f"{path}: expected a function build(shape, classes), found none")

    def guarded(shape: Shape, classes: int) -> keras.Model:
        with _errors_named(path):
            return build(shape, classes)

    return guarded


@contextlib.contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Whatever a user's file raises is one line, with the last line of the file that led there."""
    sys.path.insert(0, str(path.resolve().parent))  # for files beside it, as Python does
    try:
        yield
    except FmnistError:
        raise
    except Exception as error:
        line, trace = getattr(error, "lineno", None), error.__traceback__
        while trace:
            if trace.tb_frame.f_code.co_filename == str(path):
                line = trace.tb_lineno
            trace = trace.tb_next
        where = f"{path}, line {line}" if line else str(path)
        raise UsageError(
            f"{where}: expected a file whose build(shape, classes) returns a Keras model, "
            f"received {type(error).__name__}: {first_line(error)}"
        ) from None
    finally:
        sys.path.remove(str(path.resolve().parent))
