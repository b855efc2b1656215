"""Plots learning curves of one run or several. Not in report/, because training updates the plot as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import UserError
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


def draw_together(runs: Mapping[str, Run], path: Path) -> Path:
    """Plots the top-1 error of several runs by epoch on one axis: held-out images thick, training images thin.

    It is the figure that shows degradation (He et al., 2015, Figures 1 and 6). Raises UserError if none has an epoch.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(9, 5.5), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    ends = []
    for name, run in runs.items():
        if not (epochs := run.epochs()):
            continue
        x = [line["epoch"] for line in epochs]
        judged = [1 - line[held_out(line)]["top1"] for line in epochs]
        (line,) = axes.plot(x, judged, linewidth=2, marker="o" if len(x) == 1 else None)
        axes.plot(x, [1 - it["train"]["top1"] for it in epochs], color=line.get_color(), linewidth=0.8, alpha=0.8)
        ends.append((judged[-1], x[-1], f"{drawable(name, 30)} {judged[-1]:.2%}", line.get_color()))
    if not ends:
        raise UserError("none of the runs has finished an epoch", "draw them when one has")
    low, high = axes.get_ylim()
    at = low - high
    for error, last, text, colour in sorted(ends):
        at = max(error, at + 0.045 * (high - low))
        axes.annotate(
            text, (last, at), xytext=(6, 0), textcoords="offset points", color=colour, va="center", fontsize=9
        )
    axes.set(xlabel="epoch", ylabel="top-1 error", title="held-out images (thick) and training images (thin)")
    axes.set_xlim(right=axes.get_xlim()[0] + 1.3 * (axes.get_xlim()[1] - axes.get_xlim()[0]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    return write(figure, path)
