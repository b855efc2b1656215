"""Text beside points so that nothing lies over anything else: the house's one placement of labels (by textalloc)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

GREY = "#6b7480"
STEP = 8.0  # pixels
FURTHEST = 0.12, 0.3  # of the axes' width, from a point to its text: what leaves fewer without room, else the first


class Label(NamedTuple):
    text: str
    x: float
    y: float
    colour: str = "black"
    weight: str = "normal"


def place(
    axes: Axes,
    labels: Sequence[Label],
    points: Sequence[tuple[float, float, float]] = (),
    lines: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    *,
    taken: Sequence[Artist] = (),
    size: float = 14,
) -> list[Label]:
    """Writes each label beside its place, clear of the points (x, y, area in square points), of the lines, of what else
    is taken, and of each other, within the axes; the first ones have the first choice. Returns those without room.

    To be called last: the axes keep the place in the figure that they have now.
    """
    import textalloc

    allocate: Any = textalloc.allocate
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    if not labels:
        return []
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    every = [*points, *((it.x, it.y, 1.0) for it in labels), *covering(axes, taken)]
    obstacles = axes.scatter([x for x, _, _ in every], [y for _, y, _ in every], s=[s for _, _, s in every])

    def written(furthest: float, apart: bool = True) -> tuple[list[Any], list[Any]]:
        """The texts, None where there is no room, and the strokes that join them to their places."""
        _, _, texts, strokes = allocate(
            axes,
            [it.x for it in labels],
            [it.y for it in labels],
            [it.text for it in labels],
            scatter_plot=obstacles,
            **({"x_lines": [x for x, _ in lines], "y_lines": [y for _, y in lines]} if lines else {}),
            textsize=size,
            fontweight=[it.weight for it in labels],
            textcolor=[it.colour for it in labels],
            linecolor=GREY,
            linewidth=0.8,
            margin=0.004,
            min_distance=0.008,
            max_distance=furthest,
            draw_all=False,
            avoid_label_lines_overlap=True,
            avoid_crossing_label_lines=apart,
            zorder=5,
        )
        return texts, strokes

    def missing(furthest: float, apart: bool = True) -> int:
        texts, strokes = written(furthest, apart)
        for artist in filter(None, (*texts, *strokes)):
            artist.remove()
        return texts.count(None)

    with redirect_stdout(StringIO()):  # it prints when it finds no place
        found = {furthest: missing(furthest) for furthest in FURTHEST}
        best = min(found, key=found.__getitem__)
        crossing = bool(found[best]) and not missing(FURTHEST[-1], apart=False)  # strokes may, if all have room then
        texts, _ = written(FURTHEST[-1], apart=False) if crossing else written(best)
    obstacles.remove()
    for text in texts:
        if text is not None:
            text.set_path_effects(halo(2.5))
    return [label for label, text in zip(labels, texts, strict=True) if text is None]


def covering(axes: Axes, artists: Sequence[Artist]) -> Iterator[tuple[float, float, float]]:
    """Points that lie as close as letters over the boxes of artists."""
    to_data = axes.transData.inverted()
    for artist in artists:
        box = artist.get_window_extent()
        for x in np.arange(box.x0, box.x1 + STEP, STEP):
            for y in np.arange(box.y0, box.y1 + STEP, STEP):
                at = to_data.transform((min(x, box.x1), min(y, box.y1)))
                yield float(at[0]), float(at[1]), 4.0


def halo(width: float) -> list[Any]:
    """A white rim, so that text can be read over lines."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="white")]
