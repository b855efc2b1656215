"""An account as one HTML page, which needs nothing else: totals, claims, tables, receptive fields and the drawing."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import Any

from ..accounting.layer_graph import layer_graph
from ..accounting.rows import LEVELS, Account, Row
from .columns import CLAIMS, COSTS, FIELDS_NOTE, RECEPTIVE, Columns, claim_cells, input_row, input_size
from .drawing import svg
from .forms import claims_of, entry_of
from .tables import compact
from .templates import render

MANY = 200  # layers from which on the pictures show blocks


def html(counts: Account) -> str:
    """One file with no script and no reference to another, in light and dark as the reader has it.

    Raises UserError where igraph is not installed (`pip install convatlas[draw]`).
    """
    level = "block" if len(counts.groups("layer")) > MANY else "layer"
    images = any(row.receptive_field and all(row.jump) for row in counts.table(level))
    return render(
        "page.html",
        counts=counts,
        entry=entry_of(counts),
        input=input_size(counts.input),
        facts=_facts(counts),
        claims={
            "headers": CLAIMS,
            "whole": [claim_cells(c, counts) for c in claims_of(counts) if " " not in c.what],
            "layers": [claim_cells(c, counts) for c in claims_of(counts) if " " in c.what],
        },
        tables=[(name, _table(COSTS, counts, counts.table(name))) for name in reversed(LEVELS)],
        left=COSTS.left,
        fields=_table(RECEPTIVE, counts, counts.table(level)) if images else None,
        fields_note=FIELDS_NOTE,
        level=level,
        plots=[_plot(counts, level, dark) for dark in (False, True)] if images else None,
        drawings=[(name, svg(counts, name)) for name in dict.fromkeys(("block", level))],
    )


def _facts(counts: Account) -> list[tuple[str, str, str]]:
    """What stands on top: the figure, in short, and exactly."""
    t, bytes_each = counts.totals, counts.value_bytes
    found = [
        ("parameters", t.params, f"{t.params * bytes_each / 1e6:,.2f} MB"),
        ("multiply-adds", t.macs, "forward"),
        ("in training", t.training_macs, "multiply-adds, forward and backward"),
        ("activations", t.activations, f"values, {t.activations * bytes_each / 1e6:,.2f} MB"),
    ]
    shown = [
        (name, compact(n), f"{n:,} {more}" if name != "parameters" else f"{n:,}, {more}") for name, n, more in found
    ]
    return [*shown, ("depth", str(counts.depth), "layers with weights on the longest path")]


def _table(columns: Columns, counts: Account, rows: tuple[Row, ...]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    return columns.headers, [columns.cells(row, counts, False) for row in (input_row(counts), *rows)]


def _plot(counts: Account, level: str, dark: bool) -> str:
    """The receptive fields as a data: address."""
    from .charts import receptive_figure  # which imports NumPy

    out: Any = io.BytesIO()
    receptive_figure(layer_graph(counts, level), dark=dark).savefig(out, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + b64encode(out.getvalue()).decode()
