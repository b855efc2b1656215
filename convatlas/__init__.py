"""convatlas: an atlas of convolutional networks for image classification, each exact to its paper."""

from importlib import import_module
from typing import Any

from .accounting import Account, account
from .catalogue import Claim, Paper, Variant, find, names
from .errors import UserError
from .preprocess import Preprocess
from .recipe import Recipe
from .version import VERSION as __version__

# name: the module it comes from, imported at first use (torch takes seconds)
_LATER = {
    "features": "evaluation.features",
    "load_data": "data.sources",
    "memory": "accounting.memory.predict",
    "find_recipe": "recipes",
    "fit": "train.fit",
    "open_run": "runs.folder",
}
__all__ = [
    "Account",
    "Claim",
    "Paper",
    "Preprocess",
    "Recipe",
    "UserError",
    "Variant",
    "__version__",
    "account",
    "features",
    "find",
    "find_recipe",
    "fit",
    "load_data",
    "memory",
    "names",
    "open_run",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
