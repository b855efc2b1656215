"""Draws a chart for a slide: landscape 16:9, 14 points and more, told apart without colour, by Okabe and Ito's
colours (https://jfly.uni-koeln.de/color/) with markers and hatches.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...files.figure import DPI, drawable, write
from .frame import Chart, Panel, Point
from .labels import GREY, Label, halo, place
from .lines import DASHES, across, join, of_lines, reserve, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = 13.33, 7.5  # inches: a slide
TITLE, AXIS, TICKS, TEXT = 22, 17, 15, 14  # points
COLOURS = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#B8A800"
MARKERS = "o", "s", "^", "D", "v", "P", "X", "h"
HATCHES = "", "//", "..", "xx", "\\\\", "--", "++", "oo"
DOT, SPOT = 90.0, 18.0  # areas of a mark, and of the place of a bubble, in square points
LARGEST, CROWDED, MANY = 4000.0, 420.0, 40  # of the largest bubble, and of the largest among many
PAD = 0.12  # inches
PER_LINE = 128  # characters of a line of the note

MOST_ACROSS = 6  # groups in a row of the legend
TITLES = 96  # characters of the titles of all panels beside each other

Rect = tuple[float, float, float, float]  # left, bottom, width, height in parts of the figure
Area = Callable[[float | None], float]


class Style(NamedTuple):
    colour: str
    marker: str
    hatch: str
    dashes: Any


class Drawn(NamedTuple):
    figure: Figure
    unwritten: list[str]  # the labels for which there was no room


def draw(chart: Chart, path: Path) -> list[str]:
    """Writes the picture; returns the labels for which it has no room. Raises as `files.figure.write`."""
    drawn = figure(chart)
    write(drawn.figure, path)
    return drawn.unwritten


def figure(chart: Chart) -> Drawn:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with rc_context({"font.size": TEXT, "hatch.linewidth": 1.2, "axes.axisbelow": True}):
        note = textwrap.wrap(drawable(chart.note, 600), PER_LINE)
        head, foot = TITLE * 1.9 / 72 / SIZE[1], (len(note) * TEXT * 1.3 / 72 + 1.5 * PAD) / SIZE[1]
        body = 0.0, foot, 1.0, 1 - head - foot
        layout = ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD)
        drawn = Figure(figsize=SIZE, dpi=DPI, layout=layout)
        drawn.text(0.01, 1 - head / 2, drawable(chart.title), fontsize=TITLE, fontweight="bold", va="center")
        drawn.text(0.01, foot, "\n".join(note), color="0.25", va="top", linespacing=1.25)
        many = len(chart.panels)
        alike = len({panel.x for panel in chart.panels}) == 1 and not any(p.marks == "bars" for p in chart.panels)
        shape: dict[str, Any] = dict(ncols=many, sharey=True, sharex=alike)
        if chart.stacked:
            shape = dict(nrows=many, sharex=True, height_ratios=[panel.height for panel in chart.panels])
        grid = list(drawn.subplots(**shape, squeeze=False).flat)
        styles = of_groups(chart)
        area = areas(chart)
        wanted = []
        for i, (axes, panel) in enumerate(zip(grid, chart.panels, strict=True)):
            width = TITLES if chart.stacked else TITLES // many
            wanted.append(fill(axes, panel, styles, area, categories(chart), width))
            if chart.stacked and i < many - 1:
                axes.set_xlabel("")
            if not chart.stacked and i:
                axes.set_ylabel("")
        for axes, panel in zip(grid, chart.panels, strict=True):
            across(axes, panel, of_lines(chart))
        ends = [at_ends(panel, labels) for panel, labels in zip(chart.panels, wanted, strict=True)]
        names = [reserve(axes, labels) for axes, labels in zip(grid, ends, strict=True)]
        layout.set(rect=beside_legends(drawn, chart, styles, area, body))
        unwritten = []
        for axes, panel, labels, last, texts in zip(grid, chart.panels, wanted, ends, names, strict=True):
            labels = [label for label in labels if label not in last]
            obstacles = [(*at(panel, point, categories(chart)), area(point.size)) for point in panel.points]
            unwritten += [it.text for it in place(axes, labels, obstacles, paths(axes), size=TEXT)]
            unwritten += [it.text for it in spread(axes, last, texts, TEXT)]
        return Drawn(drawn, unwritten)


def of_groups(chart: Chart) -> dict[str, Style]:
    """A look for each group, in the chart's order, else that of their first points."""
    groups = list(dict.fromkeys((*chart.groups, *(point.group for _, point in chart.points))))
    return {
        group: Style(
            COLOURS[i % len(COLOURS)],
            MARKERS[(i + i // len(COLOURS)) % len(MARKERS)],
            HATCHES[i % len(HATCHES)],
            DASHES[i % len(DASHES)],
        )
        for i, group in enumerate(groups)
    }


def categories(chart: Chart) -> list[str]:
    """The columns or bars, of all panels, as they share an axis."""
    return list(dict.fromkeys(point.x for _, point in chart.points if isinstance(point.x, str)))


def at(panel: Panel, point: Point, names: list[str]) -> tuple[float, float]:
    """Where it is on the axes."""
    x = float(names.index(point.x)) if isinstance(point.x, str) else point.x
    return (point.y, x) if panel.marks == "bars" else (x, point.y)


def at_ends(panel: Panel, labels: list[Label]) -> list[Label]:
    """Those of the last points of lines."""
    last = {point.group: (point.x, point.y) for point in panel.points if not point.thin}
    return [it for it in labels if (it.x, it.y) in last.values()] if panel.marks == "lines" else []


def crowded(chart: Chart) -> bool:
    return len(chart.points) > MANY


def areas(chart: Chart) -> Area:
    """The area of a point's mark in square points."""
    largest, least = (CROWDED, DOT / 2) if crowded(chart) else (LARGEST, SPOT)
    of_one = largest / max((point.size for _, point in chart.points if point.size is not None), default=1.0)
    return lambda size: DOT if size is None else max(least, of_one * size)


def fill(axes: Axes, panel: Panel, styles: dict[str, Style], area: Area, names: list[str], width: int) -> list[Label]:
    """Draws the marks; returns the labels to be written once all is in place."""
    axes.set(xlabel=panel.x, ylabel=panel.y)
    if panel.marks == "bars":
        axes.set(xlabel=panel.y, ylabel=panel.x)
    axes.xaxis.label.set_fontsize(AXIS)
    axes.yaxis.label.set_fontsize(AXIS)
    axes.tick_params(labelsize=TICKS)
    if panel.title:
        axes.set_title(textwrap.fill(drawable(panel.title), width), fontsize=AXIS, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    if panel.marks in ("columns", "bars"):
        fill_bars(axes, panel, styles, names)
        labels: list[Label] = []
    else:
        fill_points(axes, panel, styles, area, names)
        above_first = sorted(panel.points, key=lambda point: -point.y)
        labels = [Label(drawable(p.label, 40), *at(panel, p, names)) for p in above_first if p.label]
    scale(axes, panel)
    return labels


def fill_points(axes: Axes, panel: Panel, styles: dict[str, Style], area: Area, names: list[str]) -> None:
    for group, style in styles.items():
        points = [point for point in panel.points if point.group == group]
        if not points:
            continue
        places = [at(panel, point, names) for point in points]
        xs, ys = [x for x, _ in places], [y for _, y in places]
        if panel.marks == "lines":
            join(axes, points, dict(color=style.colour, linestyle=style.dashes), style.marker)
            whiskers(axes, points, style)
            continue
        bubbles, few = any(point.size is not None for point in points), len(panel.points) <= MANY
        axes.scatter(
            xs,
            ys,
            s=[area(point.size) for point in points],
            color=style.colour,
            marker="o" if bubbles and few else style.marker,
            alpha=0.55 if bubbles else 0.9,
            edgecolors="black" if bubbles else "white",
            linewidths=1.0,
            zorder=3,
        )
        if bubbles and few:  # the places themselves, as bubbles overlap
            axes.scatter(xs, ys, s=SPOT, color="black", marker=style.marker, zorder=4)
        whiskers(axes, points, style)
    if panel.marks == "points":
        axes.margins(0.1, 0.14)


def whiskers(axes: Axes, points: list[Point], style: Style) -> None:
    for point in points:
        if point.low is not None and point.high is not None:
            axes.plot([point.x] * 2, [point.low, point.high], color=style.colour, linewidth=1.4, zorder=2)


def fill_bars(axes: Axes, panel: Panel, styles: dict[str, Style], names: list[str]) -> None:
    groups = [group for group in styles if any(point.group == group for point in panel.points)]
    beside = len({point.x for point in panel.points}) < len(panel.points)  # several groups in a category
    width = 0.8 / len(groups) if beside else 0.72
    flat = panel.marks == "bars"
    for i, group in enumerate(groups):
        points = [point for point in panel.points if point.group == group]
        shift = (i - (len(groups) - 1) / 2) * width if beside else 0.0
        where = [names.index(str(point.x)) + shift for point in points]
        look: dict[str, Any] = dict(color=styles[group].colour, hatch=styles[group].hatch, edgecolor="white")
        bars = (axes.barh if flat else axes.bar)(where, [point.y for point in points], width, **look)
        look = dict(fontsize=TEXT, padding=3, fontweight="bold", path_effects=halo(5))
        axes.bar_label(bars, [drawable(p.label) for p in points], **look)
    if flat:
        axes.set_yticks(range(len(names)), [drawable(name, 40) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.margins(x=0.12)
    else:
        axes.set_xticks(range(len(names)), ["\n".join(map(drawable, name.split("\n"))) for name in names])
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.margins(y=0.16)


def scale(axes: Axes, panel: Panel) -> None:
    """Logarithmic where asked, with 1, 2, 5, 10 ... written out; a light grid."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    for axis, log, set_scale in (
        (axes.xaxis, panel.log_x, axes.set_xscale),
        (axes.yaxis, panel.log_y, axes.set_yscale),
    ):
        if log:
            set_scale("log")
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 3e3 else (1,)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axis.set_minor_formatter(NullFormatter())
    if panel.ticks:
        axes.xaxis.set_major_locator(FixedLocator(panel.ticks))
    across: dict[str, Any] = {"columns": {"axis": "y"}, "bars": {"axis": "x"}}
    axes.grid(alpha=0.3, **across.get(panel.marks, {}))


def paths(axes: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    """The lines that labels keep clear of."""
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axes.get_lines()]


def beside_legends(figure: Figure, chart: Chart, styles: dict[str, Style], area: Area, body: Rect) -> Rect:
    """Adds legends to a part of the figure: above, the groups that no label names; to the right, sizes of bubbles.

    Returns the part that is left.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks = {point.group: panel.marks for panel, point in chart.points}
    bubbles = [panel.size for panel in chart.panels if panel.size]
    handles: list[Any] = []
    for group, style in styles.items():
        if says_itself(chart, group):
            continue
        if marks[group] in ("columns", "bars"):
            handles.append(
                Patch(facecolor=style.colour, hatch=style.hatch, edgecolor="white", label=drawable(group, 40))
            )
        else:
            line = style.dashes if marks[group] == "lines" else ""
            look: dict[str, Any] = dict(color=style.colour, marker=style.marker, linestyle=line, markersize=10)
            handles.append(Line2D([], [], label=drawable(group, 40), **look))
    look = dict(bbox_to_anchor=body, fontsize=TEXT, title_fontsize=TEXT, frameon=False)
    left, bottom, width, height = body
    dashes: dict[str, Any] = dict(color="black", linewidth=1.8)
    handles += [Line2D([], [], label=drawable(t), linestyle=style, **dashes) for t, style in of_lines(chart).items()]
    if handles:
        above = widest(figure, handles, look)
        height -= above.get_window_extent().height / figure.bbox.height
    if bubbles:
        sizes = round_sizes(chart)
        across = max(area(size) for size in sizes) ** 0.5
        circles = [
            Line2D([], [], marker="o", markersize=area(n) ** 0.5, linestyle="", color=GREY, alpha=0.55, label=f"{n:g}")
            for n in sizes
        ]
        look |= dict(handleheight=across / TEXT, handlelength=max(2, across / TEXT), labelspacing=0.3)
        beside = figure.legend(handles=circles, title=bubbles[0], loc="lower right", **look)
        width -= beside.get_window_extent().width / figure.bbox.width
    return left, bottom, width, height


def widest(figure: Figure, handles: list[Any], look: dict[str, Any]) -> Any:
    """The legend above, its rows alike, of as few rows as there is room for."""
    least = -(-len(handles) // MOST_ACROSS)
    for rows in range(least, len(handles) + 1):
        legend = figure.legend(handles=handles, loc="upper left", ncols=-(-len(handles) // rows), **look)
        if rows == len(handles) or legend.get_window_extent().width <= figure.bbox.width:
            return legend
        legend.remove()
    raise AssertionError


def says_itself(chart: Chart, group: str) -> bool:
    """Whether the labels in the picture begin with the group's name: of a line one, of points all."""
    of = [(panel.marks, point.label.startswith(group)) for panel, point in chart.points if point.group == group]
    return not group or not of or any(marks == "lines" and named for marks, named in of) or all(it for _, it in of)


def round_sizes(chart: Chart) -> list[float]:
    """Three, up to the largest bubble."""
    largest = max(point.size or 0 for _, point in chart.points)
    return [float(f"{largest * share:.1g}") for share in (1 / 16, 1 / 4, 1)]
