"""The points of a chart as a table: what its CSV and JSON have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..tables import Report, Table, label, number, prose
from .frame import Chart

COLUMNS = (
    label("panel", drop=5),
    label("name"),
    label("group", drop=4),
    label("x"),
    number("y", short=None),
    number("low", drop=6, short=None),
    number("high", drop=6, short=None),
    number("size", drop=3, short=None),
    prose("source", drop=1),
)


def report(chart: Chart) -> Report:
    """A line a point; lines across a panel are below the table, and in JSON."""
    rows = [
        (panel.title or panel.y, p.name, p.group, x(p.x), p.y, p.low, p.high, p.size, p.source)
        for panel, p in chart.points
    ]
    table = Table("points", COLUMNS, rows)
    empty = [column for i, column in enumerate(COLUMNS) if all(row[i] in (None, "") for row in rows)]
    shown = table
    for column in empty:
        shown = shown.without(column)
    return Report(
        shown,
        before=(chart.title, ""),
        after=(
            "\n".join(["", *axes(chart), *(f"{line.text} ({line.source})" for p in chart.panels for line in p.lines)]),
            chart.note,
        ),
        record={
            "chart": chart.name,
            "title": chart.title,
            "note": chart.note,
            "panels": [
                {"panel": p.title or p.y, "x": p.x, "y": p.y, "size": p.size, "lines": [vars(of) for of in p.lines]}
                for p in chart.panels
            ],
            "points": table.records(),
        },
        data=replace(table),
    )


def axes(chart: Chart) -> list[str]:
    """What x, y and size are, panel by panel."""
    return [
        "; ".join(f"{name}: {what}" for name, what in (("x", p.x), ("y", p.y), ("size", p.size)) if what)
        for p in chart.panels
    ]


def x(value: float | str) -> Any:
    return value.replace("-\n", "-").replace("\n", " ") if isinstance(value, str) else value
