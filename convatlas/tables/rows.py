"""The rows of a table as compact CSV: one line per row, with a cell empty where its value follows from others.

An empty cell means: `shape`, the receptive field's columns and `block_op` are as in the row above, `activations` is
the number of values of `shape`, `macs` is `weights` at each position of `shape`, `backward_macs` is twice `macs`, a
`kernel` has stride 1 and padding 0; any other has its default. A `pointwise` row has no `macs`, and `biases` is
`weights`. A `path` is in the block of the row above; ".bn" is a sibling of that row, "stages.conv2.block1:conv1"
starts a block, ":stem.pool" is in none.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from math import prod
from typing import Any

from ..accounting.rows import Row

COLUMNS = (  # rarely written ones last
    *("path", "op", "pointwise", "weights", "biases", "shape", "macs", "kernel", "stride", "padding"),
    *("receptive_field", "start", "jump", "groups", "activations", "block_op", "exact", "backward_macs"),
)
AS_ABOVE = {"shape", "receptive_field", "jump", "start", "exact", "block_op"}
COUNTS = {"weights", "biases", "groups", "macs", "backward_macs", "activations"}
FIRST = Row("", "", ())  # before the first row


def write(rows: Iterable[Row]) -> str:
    """The CSV text of rows counted on one image."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    above = FIRST
    for row in rows:
        cells = [_cell(column, row, above) for column in COLUMNS]
        while not cells[-1]:
            cells.pop()
        lines.writerow(cells)
        above = row
    return text.getvalue()


def read(text: str) -> tuple[Row, ...]:
    """The rows from the text that `write` made."""
    header, *lines = csv.reader(text.splitlines())
    rows = [FIRST]
    for cells in lines:
        rows.append(_row(dict(zip(header, cells, strict=False)), rows[-1]))
    return tuple(rows[1:])


def _cell(column: str, row: Row, above: Row) -> str:
    if column == "path":
        return _short_path(row, above)
    value, implied = getattr(row, column), _implied(row._asdict())
    if value == implied.get(column, getattr(above if column in AS_ABOVE else FIRST, column)):
        return ""
    if isinstance(value, bool):
        return "y" if value else "n"
    if isinstance(value, tuple):
        square = column != "shape" and len(value) == 2 and value[0] == value[1]
        return "x".join(map(str, value[:1] if square else value)) or "-"
    return str(value) or "-"


def _row(cells: dict[str, str], above: Row) -> Row:
    values: dict[str, Any] = {column: getattr(above, column) for column in AS_ABOVE}
    for column, cell in cells.items():
        if cell and column != "path":
            values[column] = _value(column, cell)
    values = _implied(values) | values
    path, block = _whole_path(cells["path"], above)
    return Row(path, block=block, **values)


def _implied(known: dict[str, Any]) -> dict[str, Any]:
    """The values of empty cells, given those of the row's other cells."""
    weights, shape, pointwise = known.get("weights", 0), known["shape"], known.get("pointwise", False)
    macs = 0 if pointwise else weights * prod(shape[1:])
    size = len(known.get("kernel", ()))
    return {
        "biases": weights if pointwise else 0,
        "activations": prod(shape),
        "macs": macs,
        "backward_macs": 2 * known.get("macs", macs),
        "stride": (1,) * size,
        "padding": (0,) * size,
    }


def _value(column: str, cell: str) -> Any:
    if column in COUNTS:
        return int(cell)
    if column in ("pointwise", "exact"):
        return cell == "y"
    if column in ("op", "block_op"):
        return "" if cell == "-" else cell
    if cell == "-":
        return ()
    if cell.isalpha():  # padding "same"
        return cell
    sizes = tuple(map(int, cell.split("x")))
    return sizes * 2 if len(sizes) == 1 and column != "shape" else sizes


def _short_path(row: Row, above: Row) -> str:
    parent, _, name = row.path.rpartition(".")
    if row.block != above.block:
        return f"{row.block}:{row.path.removeprefix(row.block + '.')}"
    if parent and parent == above.path.rpartition(".")[0]:
        return f".{name}"
    return row.path.removeprefix(row.block + ".")


def _whole_path(cell: str, above: Row) -> tuple[str, str]:
    """The path and its block's."""
    if cell.startswith("."):
        return above.path.rpartition(".")[0] + cell, above.block
    block, begins, inside = cell.rpartition(":")
    if not begins:
        block = above.block
    return (f"{block}.{inside}" if block else inside), block
