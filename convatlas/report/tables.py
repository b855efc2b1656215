"""Tables, and reports made of them: as text that fits a width, as Markdown, CSV and JSON.

Names can hold anything, line feeds and a terminal's commands included: JSON has them as they are, and whatever else is
printed has them as Python writes them ("\\n").
"""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from ..errors import one_line, visible

SCHEMA = 1  # of every JSON record that is printed: incremented when a key is removed or changes its meaning
GAP = "  "  # between columns


def size(shape: Iterable[object]) -> str:
    """ "3x224x224"."""
    return "x".join(map(str, shape))


def written(value: Any) -> str:
    """A cell's value for people: 1,234; 3x224x224; yes."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return size(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def signed(n: int) -> str:
    return f"{n:+,}" if n else "0"


def compact(n: float) -> str:
    """Three digits: 163,696 is "164k", 6,998,552 "7.00M"; exact thousands are "1k"."""
    if n < 0:
        return f"-{compact(-n)}"
    for unit, power in (("G", 9), ("M", 6), ("k", 3)):
        if n >= 0.9995 * 10**power:
            whole, rest = divmod(n, 10**power)
            digits = 0 if not rest else max(0, 3 - len(str(round(n / 10**power, 2 - (whole > 9))).split(".")[0]))
            return f"{n / 10**power:,.{digits}f}{unit}"
    return str(n)


def compact_signed(n: int) -> str:
    return ("+" if n > 0 else "") + compact(n)


@dataclass(frozen=True)
class Column:
    """A column of a table. Its cells are plain values; each output format writes them in its own way."""

    header: str
    key: str = ""  # its name in CSV and JSON; the header if empty
    right: bool = False  # right-aligned, as numbers are
    wraps: int = 0  # least width of prose that may wrap; 0 for names and numbers, which are never broken
    drop: int = 0  # if the table is too wide, columns are dropped from the highest number down; 0 is never dropped
    show: Callable[[Any], str] = written
    short: Callable[[Any], str] | None = None  # a shorter form of a cell
    brief: str = ""  # a shorter header

    @property
    def name(self) -> str:
        return self.key or self.header

    def shortened(self) -> Column:
        return replace(self, key=self.name, header=self.brief or self.header, show=self.short or self.show)


def label(header: str, key: str = "", *, drop: int = 0, show: Callable[[Any], str] = written) -> Column:
    """A column of names, paths, sizes: left-aligned, never broken."""
    return Column(header, key, drop=drop, show=show)


def prose(header: str, key: str = "", *, drop: int = 0, least: int = 20) -> Column:
    """A column of sentences, wrapped to lines of at least this width if the table is too wide."""
    return Column(header, key, wraps=least, drop=drop)


def number(
    header: str,
    key: str = "",
    *,
    drop: int = 0,
    show: Callable[[Any], str] = written,
    short: Callable[[Any], str] | None = compact,
    brief: str = "",
) -> Column:
    """A column of numbers: right-aligned, with a short form (724,000,000 is 724M) if the table is too wide."""
    return Column(header, key, right=True, drop=drop, show=show, short=short, brief=brief)


@dataclass(frozen=True)
class Table:
    """Columns and rows of plain values. `name` is the key of the rows in JSON."""

    name: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Any]]

    def text(self, width: int | None = None) -> str:
        """For the terminal. No line is longer than `width`, as far as possible without breaking names and numbers.

        If the table is too wide, prose is wrapped first, then numbers are shortened, then columns are dropped, the
        highest `Column.drop` first; a line below says so. None: every column, every digit.
        """
        if width is None or self._least() <= width:
            return self._lines(width)
        short = replace(self, columns=tuple(column.shortened() for column in self.columns))
        numbers, dropped = short.cells() != self.cells(), []
        while short._least() > width and any(column.drop for column in short.columns):
            last = max(short.columns, key=lambda column: column.drop)
            dropped.append(next(c.header or c.name for c in self.columns if c.name == last.name))
            short = short.without(last)
        done = ["numbers are shortened"] if numbers else []
        done += [f"not shown: {', '.join(dropped)}"] if dropped else []
        if not done:
            return short._lines(width)
        note = f"To fit {width} columns, {'; '.join(done)}. --wide shows everything."
        return "\n".join((short._lines(width), *_wrap(note, width)))

    def markdown(self) -> str:
        rule = ["---:" if column.right else "---" for column in self.columns]
        rows = (self.heads(), rule, *self.cells())
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)

    def csv(self) -> str:
        """Numbers without separators, sizes as 3x224x224, empty if there is no value."""
        out = io.StringIO()
        rows = [[column.name for column in self.columns], *self.rows]
        plain = ([written(value) if isinstance(value, tuple | bool) else value for value in row] for row in rows)
        shown = ([visible(value) if isinstance(value, str) else value for value in row] for row in plain)
        csv.writer(out, lineterminator="\n").writerows(shown)
        return out.getvalue().rstrip("\n")

    def records(self) -> list[dict[str, Any]]:
        """One dict per row, by the columns' keys."""
        return [dict(zip((column.name for column in self.columns), row, strict=True)) for row in self.rows]

    def cells(self) -> list[list[str]]:
        """Each row, formatted for people."""
        return [
            ["" if it is None else one_line(column.show(it)) for column, it in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]

    def heads(self) -> list[str]:
        return [one_line(column.header) for column in self.columns]

    def without(self, column: Column) -> Table:
        """The table without a column."""
        i = self.columns.index(column)
        return replace(
            self, columns=(*self.columns[:i], *self.columns[i + 1 :]), rows=[(*r[:i], *r[i + 1 :]) for r in self.rows]
        )

    def _widths(self, wrapped: bool) -> list[int]:
        """Characters that each column takes; for wrapped prose, the least."""
        rows = [self.heads(), *self.cells()]
        columns = zip(self.columns, zip(*rows, strict=True), strict=True)
        return [max(_least(c, column.wraps if wrapped else 0) for c in cells) for column, cells in columns]

    def _least(self) -> int:
        return _sum(self._widths(wrapped=True))

    def _lines(self, width: int | None) -> str:
        """The header, a rule and the rows; the remaining width goes to the prose."""
        widths, least = self._widths(wrapped=False), self._widths(wrapped=True)
        excess = 0 if width is None else _sum(widths) - width
        for i in sorted(range(len(widths)), key=lambda i: least[i] - widths[i]):
            taken = max(0, min(excess, widths[i] - least[i]))
            widths[i], excess = widths[i] - taken, excess - taken
        lines = []
        for cells in (self.heads(), *self.cells()):
            parts = [_wrap(cell, w) if column.wraps else [cell] for cell, w, column in zip(cells, widths, self.columns)]
            for line in zip_longest(*parts, fillvalue=""):
                padded = (_pad(cell, w, column.right) for cell, w, column in zip(line, widths, self.columns))
                lines.append(GAP.join(padded).rstrip())
        return "\n".join((lines[0], "─" * _sum(widths), *lines[1:]))


@dataclass(frozen=True)
class Report:
    """A table with what comes before and after it: lines of text, and further tables.

    `record` is for JSON (default: the table's records), `data` is the table for CSV (default: the same table).
    """

    table: Table
    before: tuple[str | Table, ...] = ()
    after: tuple[str | Table, ...] = ()
    record: dict[str, Any] | None = None
    data: Table | None = None

    @property
    def parts(self) -> tuple[str | Table, ...]:
        return (*self.before, self.table, *self.after)

    def text(self, width: int | None = None) -> str:
        """For the terminal; tables without rows are left out."""
        parts = (part for part in self.parts if isinstance(part, str) or part.rows)
        return "\n".join(part.text(width) if isinstance(part, Table) else _fold(printed(part), width) for part in parts)

    def markdown(self) -> str:
        """The first line becomes the title."""
        parts = [part.markdown() if isinstance(part, Table) else printed(part.strip("\n")) for part in self.parts]
        title = "# " if isinstance(self.parts[0], str) else ""
        return title + "\n\n".join(part for part in parts if part)

    def csv(self) -> str:
        return (self.data or self.table).csv()

    def json(self) -> str:
        return json_text({self.table.name: self.table.records()} if self.record is None else self.record)


def json_text(record: dict[str, Any]) -> str:
    """A record as it is printed, with its schema first."""
    return as_json({"schema": SCHEMA, **record}, indent=2)


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON in which everything that is printable is as it is, and nothing else."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return "\n".join("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line) for line in text.split("\n"))


def printed(lines: str) -> str:
    """Lines of text without what a terminal would obey."""
    return "\n".join(map(visible, lines.split("\n")))


def _length(cell: str) -> int:
    """Width on the terminal, where wide (such as Chinese) characters count as two."""
    if cell.isascii():
        return len(cell)
    from rich.cells import cell_len

    return cell_len(cell)


def _pad(cell: str, width: int, right: bool) -> str:
    blanks = " " * (width - _length(cell))
    return blanks + cell if right else cell + blanks


def _least(cell: str, wraps: int) -> int:
    """Characters that a cell needs: for prose, its longest word, or `wraps` if the text is at least that long."""
    return max(min(wraps, _length(cell)), *map(_length, cell.split()), 0) if wraps else _length(cell)


def _sum(widths: Iterable[int]) -> int:
    widths = list(widths)
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _wrap(sentence: str, width: int) -> list[str]:
    return textwrap.wrap(sentence, width, break_long_words=False, break_on_hyphens=False) or [""]


def _fold(lines: str, width: int | None) -> str:
    """Wraps lines of text to the width; continuation lines are indented to the text after the line's label."""
    if width is None:
        return lines
    folded: list[str] = []
    for line in lines.split("\n"):
        label = re.match(r" *(?:\S+(?: \S+)* {2,})?", line)
        indent = " " * len(label[0]) if label and 2 * len(label[0]) < width else ""
        folded += textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(folded)
