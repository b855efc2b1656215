"""Writes a drawing to a file: SVG, or PNG and PDF by matplotlib."""

from __future__ import annotations

from pathlib import Path

from ..accounting.rows import Account
from ..files.atomic import write_text
from ..files.figure import drawable, write
from .drawing import LIGHT, LINE, Drawing, Line, drawing, svg

PX = 72  # pixels per inch: a pixel of the drawing is a point
MOST_PX = 20_000  # longest side of a PNG
SHARP = 2  # PNG pixels per pixel of the drawing


def draw(counts: Account, path: Path, level: str = "block", direction: str = "down", *, full: bool = False) -> Path:
    """Writes the drawing in the format of the suffix: SVG, PNG or PDF; the other arguments are those of `drawing.svg`.

    Raises UserError as `svg` does, and if the file cannot be written.
    """
    if path.suffix.lower() == ".svg":
        write_text(path, svg(counts, level, direction, full=full))
        return path
    return picture(drawing(counts, level, direction, full=full), path)


def picture(made: Drawing, path: Path) -> Path:
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch, Rectangle

    dpi = min(SHARP * PX, PX * MOST_PX / max(made.width, made.height))
    figure = Figure(figsize=(made.width / PX, made.height / PX), dpi=dpi, facecolor=LIGHT["paper"])
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, made.width), ylim=(made.height, 0))
    axes.set_axis_off()
    style = "round,pad=0,rounding_size=6"
    axes.text(24, 28, drawable(made.caption), fontsize=13, fontweight="bold", color=LIGHT["ink"])
    for frame in made.frames:
        where = (frame.x, frame.y), frame.width, frame.height
        axes.add_patch(Rectangle(*where, facecolor=LIGHT["frame"], edgecolor=LIGHT["rim"]))
        axes.text(frame.x + 8, frame.y + 14, drawable(frame.name), fontsize=9.5, color=LIGHT["soft"])
    for line in (*made.lines, *made.arcs):
        _stroke(axes, line)
    for box in made.boxes:
        face, ink, soft = LIGHT[box.kind], LIGHT["ink"], LIGHT["soft"]
        if box.kind == "end":
            ink = soft = LIGHT["on-end"]
        where = (box.left, box.top), box.width, box.height
        axes.add_patch(FancyBboxPatch(*where, boxstyle=style, facecolor=face, edgecolor=LIGHT["rim"], zorder=3))
        for i, text in enumerate(box.lines):
            weight, colour = ("bold", ink) if i == 0 else ("normal", soft)
            at = box.top + 17 + LINE * i
            axes.text(box.x, at, drawable(text), ha="center", fontsize=11, fontweight=weight, color=colour, zorder=4)
    for label in made.labels:
        axes.text(label.x, label.y, drawable(label.text), fontsize=9.5, color=LIGHT["soft"], zorder=4)
    return write(figure, path)


def _stroke(axes: object, line: Line) -> None:
    from matplotlib.axes import Axes
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Shape

    assert isinstance(axes, Axes)
    codes, points = [], []
    for kind, numbers in line.steps:
        some = list(zip(numbers[::2], numbers[1::2], strict=True))
        codes += [{"M": Shape.MOVETO, "L": Shape.LINETO, "C": Shape.CURVE4}[kind]] * len(some)
        points += some
    colour = LIGHT["edge"] if line.edge else LIGHT["soft"]
    dashes = "--" if line.dashed else "-"
    axes.add_patch(PathPatch(Shape(points, codes), fill=False, edgecolor=colour, linewidth=1.4, linestyle=dashes))
    (x0, y0), (x, y) = points[-2:]
    length = max(((x - x0) ** 2 + (y - y0) ** 2) ** 0.5, 1e-9)
    dx, dy = 5 * (x - x0) / length, 5 * (y - y0) / length
    tip = [(x + dx, y + dy), (x - 0.7 * dy, y + 0.7 * dx), (x + 0.7 * dy, y - 0.7 * dx)]
    axes.add_patch(Polygon(tip, closed=True, color=colour, linewidth=0, zorder=2))
