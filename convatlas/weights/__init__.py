"""Weights files, from convatlas and elsewhere, read without executing anything in them; models; verified downloads."""

from .fetch import fetch
from .files import Weights, load_weights, read_weights

__all__ = ["Weights", "fetch", "load_weights", "read_weights"]
