"""Lines of a chart: those that join the points of a group, those across a panel, and names at the ends of lines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...files.figure import drawable
from .frame import Chart, Panel, Point
from .labels import GREY, Label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

MOST_MARKS = 30  # on a line
DASHES = "-", (0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (1.5, 1.5))  # of groups
ACROSS = (0, (6, 3)), (0, (1, 1.5)), (0, (8, 2, 1, 2)), (0, (3, 1)), (0, (1, 4)), (0, (12, 3))  # of lines across
AT_END = 12  # characters of a line of the text at the end of a level line
APART = 1.3  # of names at the ends of lines, in sizes of their letters


def join(axes: Axes, points: Sequence[Point], look: dict[str, Any], marker: str) -> None:
    """A group's line, and its thin one; marks as far as they can be told apart."""
    for thin in (True, False):
        of = [point for point in points if point.thin is thin]
        marks: dict[str, Any] = dict(marker=marker, markersize=8.5, markeredgecolor="white")
        marks = marks if len(of) <= MOST_MARKS else {}
        if of and thin:
            axes.plot([p.x for p in of], [p.y for p in of], **look | dict(linestyle="-", linewidth=1.2, alpha=0.8))
        elif of:
            axes.plot([p.x for p in of], [p.y for p in of], **look | dict(linewidth=2.4, zorder=3), **marks)


def across(axes: Axes, panel: Panel, dashes: dict[str, Any]) -> None:
    """Draws the lines across: level ones with their text at the end, the others, which the legend names, whole."""
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    low, high = axes.get_xlim()
    look: dict[str, Any] = dict(color="black", linewidth=1.8, zorder=2)
    for line in panel.lines:
        if not line.slope:
            text = textwrap.fill(drawable(line.text), AT_END)
            axes.axhline(line.intercept, linestyle=ACROSS[0], **look)
            axes.annotate(text, (1.01, line.intercept), xycoords=axes.get_yaxis_transform(), va="center")
            continue
        xs = np.geomspace(low, high, 100) if panel.log_x else np.linspace(low, high, 100)
        ys = line.intercept + line.slope * xs
        axes.plot(xs, ys, linestyle=dashes[line.text], **look)
        if not panel.log_y:
            axes.set_ylim(min(0.0, ys.min()), max(axes.get_ylim()[1], ys.max()))


def of_lines(chart: Chart) -> dict[str, Any]:
    """The dashes of each line that is not level, by its text; those of a single panel first."""
    texts = [line.text for panel in chart.panels for line in panel.lines if line.slope]
    ordered = sorted(dict.fromkeys(texts), key=texts.count)
    return {text: ACROSS[i % len(ACROSS)] for i, text in enumerate(ordered)}


def reserve(axes: Axes, labels: Sequence[Label]) -> list[Text]:
    """Names of lines to the right of the axes, which make room for them; `spread` puts each in its place."""
    look: dict[str, Any] = dict(transform=axes.get_yaxis_transform(), va="center")
    return [axes.text(1.035, it.y, it.text, color=it.colour, **look) for it in labels]


def spread(axes: Axes, labels: Sequence[Label], texts: Sequence[Text], size: float) -> list[Label]:
    """Moves the names apart, each as near to the end of its line as may be, and joins them to it.

    To be called once the axes have their place. Returns those for which there is no room.
    """
    from matplotlib.lines import Line2D

    figure = axes.get_figure(root=True)
    if not labels or figure is None:
        return []
    box, to_figure = axes.bbox, figure.transFigure.inverted()
    apart = APART * size * figure.dpi / 72
    room = max(1, 1 + int(box.height / apart))
    for text in texts[room:]:
        text.remove()
    ends = np.array([axes.transData.transform((it.x, it.y)) for it in labels[:room]])
    order = np.argsort(ends[:, 1], kind="stable")
    heights = apart_by(ends[order, 1], apart, box.y0, box.y1)
    for i, height in zip(order, heights, strict=True):
        at = axes.transAxes.inverted().transform((0.0, height))[1]
        texts[i].set(transform=axes.transAxes, y=at)
        (x0, y0), (x1, y1) = to_figure.transform([ends[i], (axes.transAxes.transform((1.028, at)))])
        figure.add_artist(Line2D([x0, x1], [y0, y1], color=GREY, linewidth=0.8, zorder=1))
    return list(labels[room:])


def apart_by(values: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """The nearest values, by squares, each at least `gap` above the one before, within low and high; `values` rise."""
    steps = gap * np.arange(len(values))
    blocks: list[tuple[float, int]] = []  # mean and number of those that are moved together
    for value in values - steps:
        mean, n = float(value), 1
        while blocks and blocks[-1][0] > mean:
            before, m = blocks.pop()
            mean, n = (before * m + mean * n) / (m + n), m + n
        blocks.append((mean, n))
    flat = np.concatenate([np.full(n, mean) for mean, n in blocks])
    return flat.clip(low, max(low, high - steps[-1])) + steps
