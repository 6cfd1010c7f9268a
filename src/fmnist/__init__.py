"""Train, score and iterate over image classifiers for Fashion-MNIST and its kin."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from fmnist.version import __version__ as __version__

# onnxruntime would write an identifier into the home folder and look up an address of its maker.
# It reads this when it is imported, which only fmnist's modules do, after this one.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# The public names and where each lives; imported at first use, so that `import fmnist` is instant.
_PUBLIC = {
    "Classifier": "inference.classifier",
    "Data": "data.splits",
    "FmnistError": "errors",
    "Recipe": "recipes.recipe",
    "Run": "runs.run",
    "Score": "scoring.figures",
    "Sweep": "search.sweep",
    "audit": "audits.audit",
    "compare": "scoring.compare",
    "describe": "data.describe",
    "ensemble": "training.ensemble",
    "evaluate": "scoring.evaluate",
    "export": "exports.export",
    "keras": "engine",
    "load_data": "data.load",
    "micro_batched": "training.update",
    "occlusion_map": "reports.occlusion",
    "prepare_photo": "inference.photos",
    "recipe": "recipes.shipped",
    "report": "reports.report",
    "resume": "training.train",
    "sweep": "search.start",
    "sweep_page": "search.page",
    "train": "training.train",
    "verify": "scoring.verify",
}
__all__ = [*_PUBLIC]

if TYPE_CHECKING:
    from fmnist.audits.audit import audit as audit
    from fmnist.data.describe import describe as describe
    from fmnist.data.load import load_data as load_data
    from fmnist.data.splits import Data as Data
    from fmnist.engine import keras as keras
    from fmnist.errors import FmnistError as FmnistError
    from fmnist.exports.export import export as export
    from fmnist.inference.classifier import Classifier as Classifier
    from fmnist.inference.photos import prepare_photo as prepare_photo
    from fmnist.recipes.recipe import Recipe as Recipe
    from fmnist.recipes.shipped import recipe as recipe
    from fmnist.reports.occlusion import occlusion_map as occlusion_map
    from fmnist.reports.report import report as report
    from fmnist.runs.run import Run as Run
    from fmnist.scoring.compare import compare as compare
    from fmnist.scoring.evaluate import evaluate as evaluate
    from fmnist.scoring.figures import Score as Score
    from fmnist.scoring.verify import verify as verify
    from fmnist.search.page import sweep_page as sweep_page
    from fmnist.search.start import sweep as sweep
    from fmnist.search.sweep import Sweep as Sweep
    from fmnist.training.ensemble import ensemble as ensemble
    from fmnist.training.train import resume as resume
    from fmnist.training.train import train as train
    from fmnist.training.update import micro_batched as micro_batched


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fmnist' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fmnist.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*_PUBLIC, "__version__"])
