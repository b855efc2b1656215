"""Weights files, ours and others', read without executing anything in them; models; checked downloads."""

from .fetch import fetch
from .files import Weights, load_weights, read_weights

__all__ = ["Weights", "fetch", "load_weights", "read_weights"]
