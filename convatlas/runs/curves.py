"""The learning curves of a run, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files.figure import DPI, write


def curves(epochs: Sequence[dict[str, Any]], path: Path) -> Path | None:
    """Loss and top-1 after each epoch, in training and on the test images; `epochs` is what `Run.epochs()` gives.

    Nothing is drawn before the first epoch is over.
    """
    if not epochs:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(10, 4), dpi=DPI, layout="constrained")
    x = [line["epoch"] for line in epochs]
    for axes, what, title in zip(figure.subplots(1, 2), ("loss", "top1"), ("loss", "top-1 accuracy"), strict=True):
        for split, colour in (("train", "tab:blue"), ("test", "tab:orange")):
            y = [line[split][what] for line in epochs]
            axes.plot(x, y, color=colour, label=split, marker="o" if len(x) < 30 else None, markersize=4)
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(y=0.12)  # room for what is written above the best
    best = max(epochs, key=lambda line: line["test"]["top1"])
    axes.annotate(
        f"{best['test']['top1']:.2%}",
        (best["epoch"], best["test"]["top1"]),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )
    return write(figure, path)
