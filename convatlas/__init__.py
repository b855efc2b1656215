"""convatlas: an atlas of convolutional networks for image classification, each exact to its paper.

`docs/api.md` shows the functions by task. Nothing here imports torch before it is needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import report
from .accounting import Account, Row, Totals, account
from .catalogue import Claim, Paper, Variant, build, find
from .errors import UserError
from .limits import Limit
from .preprocess import Preprocess
from .recipe import Recipe
from .recipes import find_recipe
from .tables.search import names
from .version import VERSION as __version__

if TYPE_CHECKING:
    from .accounting.diff import Diff, diff
    from .accounting.memory.figures import Memory
    from .accounting.memory.predict import memory
    from .data.sources import load_data
    from .data.types import Data, Split
    from .engines.export import Exported, export
    from .evaluation.features import feature_extractor, features
    from .evaluation.predictions import Prediction, predict
    from .evaluation.scores import Scores
    from .evaluation.scoring import evaluate
    from .layers import ConvNet
    from .runs.folder import Run, open_run
    from .train.divergence import Diverged
    from .train.execution import Execution
    from .train.fit import Stopped, fit
    from .tuning.transfer import Transferred, transfer
    from .weights.model import Model, load

# What needs torch or numpy, by the module it comes from, which is imported at first use
_LAZY = {
    "accounting.diff": ("Diff", "diff"),
    "accounting.memory.figures": ("Memory",),
    "accounting.memory.predict": ("memory",),
    "data.sources": ("load_data",),
    "data.types": ("Data", "Split"),
    "engines.export": ("Exported", "export"),
    "evaluation.features": ("feature_extractor", "features"),
    "evaluation.predictions": ("Prediction", "predict"),
    "evaluation.scores": ("Scores",),
    "evaluation.scoring": ("evaluate",),
    "layers": ("ConvNet",),
    "runs.folder": ("Run", "open_run"),
    "train.execution": ("Execution",),
    "train.divergence": ("Diverged",),
    "train.fit": ("Stopped", "fit"),
    "tuning.transfer": ("Transferred", "transfer"),
    "weights.model": ("Model", "load"),
}
_HOME = {name: module for module, found in _LAZY.items() for name in found}

__all__ = [
    "Account",
    "Claim",
    "ConvNet",
    "Data",
    "Diff",
    "Diverged",
    "Execution",
    "Exported",
    "Limit",
    "Memory",
    "Model",
    "Paper",
    "Prediction",
    "Preprocess",
    "Recipe",
    "Row",
    "Run",
    "Scores",
    "Split",
    "Stopped",
    "Totals",
    "Transferred",
    "UserError",
    "Variant",
    "__version__",
    "account",
    "build",
    "diff",
    "evaluate",
    "export",
    "feature_extractor",
    "features",
    "find",
    "find_recipe",
    "fit",
    "load",
    "load_data",
    "memory",
    "names",
    "open_run",
    "predict",
    "report",
    "transfer",
]

if not TYPE_CHECKING:  # type checkers see the imports above, and report any other name

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(import_module(f".{_HOME[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
