"""An account as text, Markdown, CSV and JSON; docs/reports.md says what every column and key means."""

from __future__ import annotations

from typing import Any

from ..accounting.claims import counted, holds
from ..accounting.rows import Account, Row
from ..catalogue import Claim
from ..tables import claims, index, load
from .columns import CLAIMS, COSTS, Columns, claim_cells, input_row, input_size
from .tables import csv_table, json_text, markdown_table, text_table


def text(counts: Account, level: str = "layer", columns: Columns = COSTS) -> str:
    """What `convatlas show` prints, of any account: the table at a level, and the totals."""
    rows = (columns.cells(row, counts, False) for row in (input_row(counts), *counts.table(level)))
    return "\n".join((*heading(counts), text_table(columns.headers, rows, columns.left), *summary(counts)))


def markdown(counts: Account, level: str = "layer", columns: Columns = COSTS) -> str:
    rows = (columns.cells(row, counts, False) for row in (input_row(counts), *counts.table(level)))
    title, *about = heading(counts)
    parts = [f"# {counts.name}", "\n".join((title, *about)), *_claims_table(counts)]
    return "\n\n".join((*parts, markdown_table(columns.headers, rows, columns.left), "\n".join(summary(counts))))


def _claims_table(counts: Account) -> list[str]:
    made = claims_of(counts)
    return [markdown_table(CLAIMS, (claim_cells(c, counts) for c in made), left=5)] if made else []


def csv(counts: Account, level: str = "layer", columns: Columns = COSTS) -> str:
    """A line a row, its numbers without separators."""
    return csv_table(columns.headers, (columns.cells(row, counts, True) for row in counts.table(level)))


def json(counts: Account, level: str = "layer") -> str:
    return json_text(record(counts, level))


def record(counts: Account, level: str = "layer") -> dict[str, Any]:
    """The account as plain data: the network, its paper's claims (of it as the catalogue has it), totals, rows."""
    entry = entry_of(counts)
    about = {k: entry[k] for k in ("name", "family", "file", "paper", "note", "recipe")} if entry else {}
    made = claims_of(counts)
    return {
        "name": counts.name,
        **about,
        **({"claims": [claim_record(counts.name, c, counts) for c in made]} if is_stock(counts) else {}),
        "input": counts.input,
        "batch": counts.batch,
        "depth": counts.depth,
        "level": level,
        "totals": counts.to_json()["totals"],
        "idle": dict(counts.idle),
        "uncounted": counts.uncounted,
        "rows": [row_record(row, counts) for row in counts.table(level)],
    }


def row_record(row: Row, counts: Account) -> dict[str, Any]:
    return vars(row) | {"params": row.params, "bytes": row.activations * counts.value_bytes}


def claim_record(name: str, claim: Claim, counts: Account) -> dict[str, Any]:
    return {"network": name, **vars(claim), "counted": counted(claim, counts), "holds": holds(claim, counts)}


def entry_of(counts: Account) -> dict[str, Any] | None:
    """What the catalogue says of the network; None of one that is not in it."""
    return index().get(counts.name)


def is_stock(counts: Account) -> bool:
    """Whether this is the network as the catalogue has it, on its own input: what its claims are about."""
    return counts.name in index() and counts == load(counts.name)


def claims_of(counts: Account) -> list[Claim]:
    return claims(counts.name) if is_stock(counts) else []


def heading(counts: Account) -> list[str]:
    entry = entry_of(counts)
    if entry is None:
        return [counts.name]
    paper = entry["paper"]
    return [
        f"{entry['name']}: {paper['title']} ({paper['authors']}, {paper['year']}), {paper['url']}",
        *([entry["note"]] if entry["note"] else []),
        f"file {entry['file']}" + (f", recipe {entry['recipe']}" if entry["recipe"] else ""),
    ]


def summary(counts: Account) -> list[str]:
    """The totals in words; what was not counted; whether the count is partial."""
    t = counts.totals
    stored, kept = t.activations * counts.value_bytes, t.pointwise_activations * counts.value_bytes
    images = "an image" if counts.batch == 1 else f"{counts.batch} images"
    lines = [
        f"For {images} of {input_size(counts.input)}:",
        f"  parameters     {t.params:,} ({t.weights:,} without biases), {t.params * counts.value_bytes / 1e6:,.2f} MB",
        f"  multiply-adds  {t.macs:,} (convolutions and matrix products; no biases, batch norm, pooling, activations)",
        f"                 {t.training_macs:,} in training, forward and backward; depth {counts.depth}",
        f"  activations    {t.activations:,} values, {stored / 1e6:,.2f} MB (the input and every layer's output;",
        f"                 outputs of ReLU, batch norm, additions kept as well: {kept / 1e6:,.2f} MB more)",
    ]
    for path, n in counts.idle:
        lines.append(f"  not counted    {path}: {n:,} parameters that this pass does not use")
    if counts.uncounted:
        lines.append(f"  PARTIAL: no rule for {', '.join(counts.uncounted)}")
    return lines
