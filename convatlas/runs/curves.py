"""Plots a run's learning curves. Here and not in report/, because training updates the plot as it goes."""

from __future__ import annotations

from pathlib import Path

from ..files.figure import DPI, drawable, write
from ..recipe import MIXES, operation
from .folder import Run
from .log import held_out


def draw_curves(run: Run, path: Path) -> Path | None:
    """Plots training and held-out loss and top-1 by epoch; None before the end of the first epoch."""
    epochs = run.epochs()
    if not epochs:
        return None
    judged = held_out(epochs[-1])
    smoothed = run.recipe.label_smoothing or any(operation(op)[0] in MIXES for op in run.recipe.augment)
    labels = {"train": "train (of smoothed or mixed labels)" if smoothed else "train", judged: judged}
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(10, 4), dpi=DPI, layout="constrained")
    x = [line["epoch"] for line in epochs]
    for axes, what, title in zip(figure.subplots(1, 2), ("loss", "top1"), ("loss", "top-1 accuracy"), strict=True):
        for split, colour in (("train", "tab:blue"), (judged, "tab:orange")):
            y = [line[split][what] for line in epochs]
            axes.plot(
                x,
                y,
                color=colour,
                label=labels[split] if what == "loss" else split,
                marker="o" if len(x) < 30 else None,
                markersize=4,
            )
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(y=0.12)  # room for the label above the best epoch
    figure.suptitle(drawable(f"{run.network} on {run.record.data.get('name')}, recipe {run.recipe.name}"))
    best = max(epochs, key=lambda line: line[judged]["top1"])
    axes.annotate(
        f"{best[judged]['top1']:.2%}",
        (best["epoch"], best[judged]["top1"]),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )
    return write(figure, path)
