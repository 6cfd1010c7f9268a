"""The engine, TensorFlow or JAX, that runs Keras.

Importing this package, or anything in it, settles which: TensorFlow unless KERAS_BACKEND says jax.
So Keras is never imported before it is settled: what stands outside of `engine` takes `keras` and
`ops` from here.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from fmnist.errors import UsageError, to_install

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides start-up banners, keeps errors


# Keras would read a choice of backend from a file in the home folder, and write that file. Both
# make results depend on something that no run records.
BACKEND = os.environ.setdefault("KERAS_BACKEND", "tensorflow")


if "keras" in sys.modules:  # it was imported first and has made its choice
    BACKEND = sys.modules["keras"].config.backend()


if BACKEND not in ("tensorflow", "jax"):
    raise UsageError(
        f"KERAS_BACKEND: expected tensorflow or jax, received {BACKEND!r}; "
        "unset it for TensorFlow (CPU) or set it to jax (GPU, TPU)"
    )


@contextlib.contextmanager
def without_banners() -> Iterator[None]:
    """TensorFlow's C++ side greets on stderr before any setting can reach it."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# What Keras and TensorFlow import too where it is installed, for wrappers that no command uses: two
# of the five seconds that a command takes to start.
NEEDLESS = ("sklearn", "pandas", "matplotlib", *(["jax"] if BACKEND == "tensorflow" else []))


def fmnist_owns_the_process() -> bool:
    """Whether this is a process of the command line or of `python -m fmnist...`, no notebook."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return "fmnist.cli" in sys.modules or (spec is not None and spec.name.startswith("fmnist."))


@contextlib.contextmanager
def without_needless_imports() -> Iterator[None]:
    """While Keras is imported, what is NEEDLESS looks as if it were not installed.

    A notebook may want Keras' wrappers: there nothing is hidden.
    """
    absent = [name for name in NEEDLESS if name not in sys.modules]
    hidden = absent if fmnist_owns_the_process() else []
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


try:
    with without_banners(), without_needless_imports():
        import keras as keras
        from keras import ops as ops

        if BACKEND == "tensorflow":
            import tensorflow  # noqa: F401
        else:
            import jax  # noqa: F401
except ModuleNotFoundError as _error:
    _other = "set KERAS_BACKEND=jax for JAX, which is installed, or "
    if _error.name != "tensorflow" or find_spec("jax") is None:
        _other = ""
    raise UsageError(
        f"training and scoring need more packages ({_error.name} is missing): {_other}"
        f"{to_install('jax' if BACKEND == 'jax' else 'train')}"
    ) from None
