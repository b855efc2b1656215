"""Tables on the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import UserError


def parse_input(text: str) -> tuple[int, int, int]:
    """ "3x224x224" -> (3, 224, 224)."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 3 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise UserError(f"input {text!r} is no image size; write channels x height x width, such as 3x224x224")
    c, h, w = map(int, parts)
    return c, h, w


def print_json(record: Any) -> None:
    print(json.dumps(record, indent=2, ensure_ascii=False))


def size(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """A rich table; the first `left` columns are text, the others numbers. Unlimited width when not on a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 10_000  # a file or a pipe gets every line whole
    Console(width=width, highlight=False, markup=False).print(table)


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    rule = ["---" if i < left else "---:" for i in range(len(headers))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headers, rule, *rows))


def csv_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows((headers, *rows))
    return out.getvalue().rstrip("\n")
