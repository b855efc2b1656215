"""Draws a layer as in the lectures: the input with its padding, the windows at their first positions, the output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arithmetic import FC, Conv, Cost, Pool, Transposed
from ..errors import UserError
from ..files.figure import DPI, write
from .layer import Layer, describe, pair

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST = 20  # at most so many cells per side, padding included, are drawn individually
COLOURS = "#3b82d6", "#e08a2c", "#2fa36b"  # of the first three windows and their outputs

Span = tuple[int, int]  # along one side: first position, and one past the last


def plot(kind: str, layer: Layer, input: tuple[int, ...], cost: Cost, path: Path) -> Path:
    """Draws one channel of the layer's input and output to a PNG, SVG or PDF file. Raises UserError for an FC layer."""
    return write(figure(kind, layer, input, cost), path)


def figure(kind: str, layer: Layer, input: tuple[int, ...], cost: Cost) -> Figure:
    """Input left, output right, at the same scale; the first windows along the width in colour, with their outputs.

    For a transposed convolution, each input value has the colour of the output window that it adds to. Sides above
    LARGEST are drawn as outlines without cells. Raises UserError for an FC layer.
    """
    from matplotlib.figure import Figure

    if isinstance(layer, FC):
        raise UserError("a fully connected layer has no windows to draw", "leave out --plot")
    of_input, of_output = input[1:], cost.shape[1:]
    pads, reads = geometry(layer, of_input)
    padded, other = (of_output, of_input) if isinstance(layer, Transposed) else (of_input, of_output)
    shown = [before + n + after for n, (before, after) in zip(padded, pads)]
    cells = max(*shown, *other) <= LARGEST
    made = Figure(figsize=(10, 5.4), dpi=DPI, layout="constrained")
    left, right = made.subplots(1, 2, width_ratios=(1, 1))
    swap = isinstance(layer, Transposed)
    windowed, single = (right, left) if swap else (left, right)
    _grid(windowed, padded, pads, cells)
    _grid(single, other, [(0, 0), (0, 0)], cells)
    for n, (colour, columns) in enumerate(zip(COLOURS, reads[1])):
        _window(windowed, reads[0][0], columns, colour, cells)
        _window(single, [0], [n], colour, cells)
    height, width = max(shown[0], other[0]), max(shown[1], other[1])
    for axes, sides, offset in ((windowed, shown, [p[0] for p in pads]), (single, other, [0, 0])):
        middle = [side / 2 - before for side, before in zip(sides, offset)]
        axes.set_xlim(middle[1] - width / 2 - 0.3, middle[1] + width / 2 + 0.3)
        axes.set_ylim(middle[0] + height / 2 + 0.3, middle[0] - height / 2 - 0.3)
        axes.set_aspect("equal")
        axes.set_axis_off()
    cut = "cut off" if swap else "padding"
    hatched = f" (hatched: {cut})" if any(map(any, pads)) else ""
    left.set_title(f"input {_size(of_input)}" + ("" if swap else hatched))
    right.set_title(f"output {_size(of_output)}" + (hatched if swap else ""))
    made.suptitle(f"{describe(kind, layer)} on {'x'.join(map(str, input))}, one channel", fontweight="bold")
    height_formula, width_formula = cost.formulas["height"], cost.formulas["width"]
    alike = height_formula == width_formula
    formula = f"output: {height_formula}" if alike else f"height: {height_formula}\nwidth: {width_formula}"
    made.supxlabel(formula, fontsize=11)
    return made


def geometry(layer: Conv | Pool | Transposed, sides: tuple[int, ...]) -> tuple[list[Span], list[list[list[int]]]]:
    """Along height and width: padding (or cropping) before and after, and the spans of the first windows."""
    if isinstance(layer, Transposed):
        settings = zip(*map(pair, (layer.kernel, layer.stride, layer.padding, layer.dilation)))
        pads, reads = [], []
        for (kernel, stride, padding, dilation), n in zip(settings, sides, strict=True):
            pads.append((padding, padding))
            starts = [i * stride - padding for i in range(min(n, len(COLOURS)))]
            reads.append([[start + tap * dilation for tap in range(kernel)] for start in starts])
        return pads, reads
    pads, reads = [], []
    for window, n in zip(layer.windows, sides):
        read = window.reads(n)
        before, after = window.pads(n)
        pads.append((before, max(after, read[-1][-1] + 1 - n)))  # with ceil, the last window extends past the edge
        reads.append(read[: len(COLOURS)])
    return pads, reads


def _grid(axes: Axes, sides: tuple[int, ...], pads: list[Span], cells: bool) -> None:
    """Draws the padding hatched, the image white, and the lines between cells, if there are cells."""
    from matplotlib.patches import Rectangle

    (above, below), (before, after) = pads
    height, width = sides
    whole = (-before, -above), before + width + after, above + height + below
    axes.add_patch(Rectangle(*whole, facecolor="#f3f4f6", edgecolor="#9aa4b2", hatch="////", linewidth=0.8))
    axes.add_patch(Rectangle((0, 0), width, height, facecolor="white", edgecolor="#1c2430", linewidth=1.5))
    if cells:
        grey: dict[str, Any] = {"color": "#9aa4b2", "linewidth": 0.7}
        axes.vlines(range(-before, width + after + 1), -above, height + below, **grey)
        axes.hlines(range(-above, height + below + 1), -before, width + after, **grey)


def _window(axes: Axes, rows: list[int], columns: list[int], colour: str, cells: bool) -> None:
    """Draws a frame around a window, and shades the cells that it reads (a dilated kernel skips some)."""
    from matplotlib.patches import Rectangle

    frame = (columns[0], rows[0]), columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    axes.add_patch(Rectangle(*frame, fill=False, edgecolor=colour, linewidth=2.2 if cells else 0.9))
    if not cells:
        axes.add_patch(Rectangle(*frame, facecolor=colour, alpha=0.3, linewidth=0))
        return
    for row in rows:
        for column in columns:
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, alpha=0.3, linewidth=0))


def _size(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))
