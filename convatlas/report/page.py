"""An account as a self-contained HTML page: totals, claims, tables, receptive fields and the drawing."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import Any

from ..accounting.layer_graph import layer_graph
from ..accounting.rows import LEVELS, Account
from .account import claims_of, entry_of
from .columns import COSTS, FIELDS_NOTE, RECEPTIVE, claim_table, input_size
from .drawing import svg
from .tables import compact
from .templates import render

MANY = 200  # from this many layers on, the pictures show blocks


def html(counts: Account) -> str:
    """One file without scripts or references to other files, in the reader's light or dark mode.

    Raises UserError if igraph is not installed (`pip install convatlas[draw]`).
    """
    level = "block" if len(counts.groups("layer")) > MANY else "layer"
    images = any(row.receptive_field and all(row.jump) for row in counts.table(level))
    whole, layers = ([(counts, c) for c in claims_of(counts) if (" " in c.what) is single] for single in (False, True))
    return render(
        "network.html",
        counts=counts,
        entry=entry_of(counts),
        input=input_size(counts.input),
        facts=_facts(counts),
        claims=claim_table(whole),
        layer_claims=claim_table(layers),
        tables=[(name, COSTS.table(counts, name)) for name in reversed(LEVELS)],
        fields=RECEPTIVE.table(counts, level) if images else None,
        fields_note=FIELDS_NOTE,
        level=level,
        plots=[_plot(counts, level, dark) for dark in (False, True)] if images else None,
        drawings=[(name, svg(counts, name)) for name in dict.fromkeys(("block", level))],
    )


def _facts(counts: Account) -> list[tuple[str, str, str]]:
    """The headline figures: name, short form, exact value."""
    t, bytes_each = counts.totals, counts.value_bytes
    found = [
        ("parameters", t.params, f", {t.params * bytes_each / 1e6:,.2f} MB"),
        ("multiply-adds", t.macs, " forward"),
        ("in training", t.training_macs, " multiply-adds, forward and backward"),
        ("activations", t.activations, f" values, {t.activations * bytes_each / 1e6:,.2f} MB"),
    ]
    shown = [(name, compact(n), f"{n:,}{more}") for name, n, more in found]
    return [*shown, ("depth", str(counts.depth), "layers with weights on the longest path")]


def _plot(counts: Account, level: str, dark: bool) -> str:
    """The receptive field plot as a data: URL."""
    from .charts import receptive_figure  # which imports NumPy

    out: Any = io.BytesIO()
    receptive_figure(layer_graph(counts, level), dark=dark).savefig(out, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + b64encode(out.getvalue()).decode()
