"""Train, score and iterate over image classifiers for Fashion-MNIST and its kin."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# The public names and where each lives; imported at first use, so that `import fmnist` is instant.
_PUBLIC = {
    "Classifier": "predict", "Data": "data", "FmnistError": "errors", "Recipe": "recipes",
    "Run": "runs", "Score": "evaluation", "evaluate": "evaluation", "export": "exports",
    "load_data": "data",
    "micro_batched": "microbatch", "recipe": "recipes", "resume": "training", "train": "training",
}  # fmt: skip
__all__ = [*_PUBLIC]

if TYPE_CHECKING:
    from fmnist.data import Data as Data
    from fmnist.data import load_data as load_data
    from fmnist.errors import FmnistError as FmnistError
    from fmnist.evaluation import Score as Score
    from fmnist.evaluation import evaluate as evaluate
    from fmnist.exports import export as export
    from fmnist.microbatch import micro_batched as micro_batched
    from fmnist.predict import Classifier as Classifier
    from fmnist.recipes import Recipe as Recipe
    from fmnist.recipes import recipe as recipe
    from fmnist.runs import Run as Run
    from fmnist.training import resume as resume
    from fmnist.training import train as train


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fmnist' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fmnist.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*_PUBLIC, "__version__"])
