"""Weights files, from convatlas and elsewhere, read without executing anything in them; models; verified downloads."""

from .fetch import fetch
from .files import read_weights
from .match import Fit, load_weights
from .types import Weights

__all__ = ["Fit", "Weights", "fetch", "load_weights", "read_weights"]
