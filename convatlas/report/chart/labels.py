"""Text beside points so that nothing lies over anything else: the house's one placement of labels (by textalloc)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#6b7480"
FURTHEST = 0.18  # of the axes' width, from a point to its text


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
    size: float = 14,
) -> list[Label]:
    """Writes each label beside its place, clear of the points (x, y, area in square points), of the lines, and of each
    other, within the axes; the first ones have the first choice. Returns those for which there is no room.

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
    every = [*points, *((it.x, it.y, 1.0) for it in labels)]
    taken = axes.scatter([x for x, _, _ in every], [y for _, y, _ in every], s=[s for _, _, s in every])
    _, _, texts, _ = allocate(
        axes,
        [it.x for it in labels],
        [it.y for it in labels],
        [it.text for it in labels],
        scatter_plot=taken,
        **({"x_lines": [x for x, _ in lines], "y_lines": [y for _, y in lines]} if lines else {}),
        textsize=size,
        fontweight=[it.weight for it in labels],
        textcolor=[it.colour for it in labels],
        linecolor=GREY,
        linewidth=0.8,
        margin=0.004,
        min_distance=0.008,
        max_distance=FURTHEST,
        draw_all=False,
        avoid_label_lines_overlap=True,
        avoid_crossing_label_lines=True,
        zorder=5,
    )
    taken.remove()
    for text in texts:
        if text is not None:
            text.set_path_effects(halo(2.5))
    return [label for label, text in zip(labels, texts, strict=True) if text is None]


def halo(width: float) -> list[Any]:
    """A white rim, so that text can be read over lines."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="white")]
