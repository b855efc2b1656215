"""Reports on an account: `text`, `markdown`, `csv`, `json` (as plain data: `record`), `html`, and a drawing, `svg`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .account import csv, json, markdown, record, text

if TYPE_CHECKING:
    from .drawing import svg
    from .page import html

_LATER = {"html": "page", "svg": "drawing"}  # name: its module, imported on first use
__all__ = ["csv", "html", "json", "markdown", "record", "svg", "text"]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
