"""Headers and rows as text for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 10_000  # a file or a pipe gets every line whole


def rich_table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Table:
    """The first `left` columns are text, the others numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def text_table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=WIDE, highlight=False, markup=False).print(rich_table(headers, rows, left))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    rule = ["---" if i < left else "---:" for i in range(len(headers))]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |" for cells in (headers, rule, *rows))


def csv_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows((headers, *rows))
    return out.getvalue().rstrip("\n")
