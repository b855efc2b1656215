"""The totals of other counters for a network, and every difference from our count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..accounting.counters.reconcile import Reconciled
from .columns import input_size
from .tables import Report, Table, compact_signed, label, number, prose, signed

COLUMNS = (
    label("tool"),
    prose("what"),
    number("places", "times", drop=1, short=None),
    number("difference", "amount", show=signed, short=compact_signed),
    number("total"),
)


def report(name: str, input: tuple[Any, ...], found: Mapping[str, Reconciled], training: bool = False) -> Report:
    """For each tool: our multiply-accumulates, each difference with the number of places it sums, the tool's total."""
    return Report(
        Table("tools", COLUMNS, [row for reconciled in found.values() for row in rows(reconciled)]),
        before=(f"{name}, one image of {input_size(input)}{', in training' * training}, as each counter counts it:",),
        record=record(name, input, found) | {"training": training},
    )


def rows(r: Reconciled) -> Iterator[tuple[Any, ...]]:
    yield r.tool, "multiply-accumulates, as we count", None, None, r.macs
    for line in r.lines:
        yield r.tool, line.reason, line.times, line.amount, None
    yield r.tool, f"= its {r.unit}", None, None, r.total


def record(name: str, input: tuple[Any, ...], found: Mapping[str, Reconciled]) -> dict[str, Any]:
    return {
        "name": name,
        "input": input,
        "macs": next(iter(found.values())).macs,
        "tools": {
            tool: {"unit": r.unit, "total": r.total, "differences": [line._asdict() for line in r.lines]}
            for tool, r in found.items()
        },
    }
