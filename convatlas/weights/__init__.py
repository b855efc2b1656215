"""Weights from files, ours and others', without running anything that they hold; and downloads that are checked."""

from .fetch import fetch
from .files import Weights, load_weights, read_weights

__all__ = ["Weights", "fetch", "load_weights", "read_weights"]
