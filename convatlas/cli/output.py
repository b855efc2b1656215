"""What verbs print, and how they read an image size."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..report.columns import size
from ..report.forms import json_text
from ..report.tables import WIDE, rich_table

__all__ = ["parse_input", "print_json", "print_table", "size", "write_file"]


def parse_input(text: str) -> tuple[int, int, int]:
    """ "3x224x224" -> (3, 224, 224)."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 3 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise UserError(f"input {text!r} is no image size", "write channels x height x width, such as 3x224x224")
    c, h, w = map(int, parts)
    return c, h, w


def print_json(record: dict[str, Any]) -> None:
    print(json_text(record))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """A rich table; the first `left` columns are text, the others numbers. Unlimited width when not on a terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDE
    Console(width=width, highlight=False, markup=False).print(rich_table(headers, rows, left))


def write_file(path: Path, text: str) -> Path:
    """Writes a file and returns its path. Raises UserError where it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror})", "name a file in a folder that exists"
        ) from error
    return path
