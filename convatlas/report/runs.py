"""Runs side by side: what was trained on what, how far it has come, and how well it does."""

from __future__ import annotations

from collections.abc import Mapping

from ..runs.folder import Run
from ..runs.log import held_out
from .tables import Report, Table, label, number


def report(runs: Mapping[str, Run]) -> Report:
    """A row for each run, by its name."""
    rows = [row(name, run) for name, run in runs.items()]
    columns = (
        label("run"),
        label("network", drop=4),
        label("recipe", drop=3),
        label("data", drop=2),
        number("epoch"),
        number("of"),
        number("top-1", "top1", show=share, short=None),
        label("judged", "judged"),
        number("time", "seconds", show=duration, short=None, drop=1),
    )
    after = f"{len(rows)} runs. top-1: of the epoch that val chose, or of the last on test; time: in training alone."
    return Report(Table("runs", columns, rows), after=(after,))


def row(name: str, run: Run) -> tuple[object, ...]:
    chosen, epochs = run.chosen(), run.epochs()
    judged = held_out(chosen) if chosen else None
    return (
        name,
        run.network,
        run.recipe.name,
        run.record.data.get("name"),
        epochs[-1]["epoch"] if epochs else 0,
        run.recipe.epochs,
        chosen[judged]["top1"] if chosen and judged else None,
        judged,
        round(run.seconds, 1),
    )


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes:.0f} min" if minutes < 120 else f"{hours:.1f} h"
