"""Every text of a drawn chart with its box, as the renderer sees it."""

from collections.abc import Iterator
from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def boxes(figure: Figure) -> dict[str, Bbox]:
    """In pixels, by text and place; of visible texts that say something."""
    figure.draw_without_rendering()
    renderer = figure._get_renderer()  # type: ignore[attr-defined]
    beyond = {id(text) for axes in figure.findobj(Axes) for text in ticks_beyond(axes)}  # type: ignore[arg-type]
    found = {}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_text().strip() and text.get_visible() and id(text) not in beyond:
            box = text.get_window_extent(renderer)
            found[f"{text.get_text()!r} at {box.x0:.0f}, {box.y0:.0f}"] = box
    return found


def ticks_beyond(axes: Axes) -> Iterator[Text]:
    """The texts of ticks outside the axes, which matplotlib keeps and does not draw."""
    for axis in (axes.xaxis, axes.yaxis):
        drawn = axis._update_ticks()  # type: ignore[attr-defined]
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if tick not in drawn:
                yield from (tick.label1, tick.label2)


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts of which one lies on the other by more than half a pixel."""
    pairs = combinations(boxes(figure).items(), 2)
    return [
        (one, other)
        for (one, a), (other, b) in pairs
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5
    ]


def outside(figure: Figure) -> list[str]:
    width, height = figure.bbox.width, figure.bbox.height
    return [
        text for text, box in boxes(figure).items() if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height
    ]


def smallest(figure: Figure) -> float:
    """Of the sizes of all texts, in points."""
    return min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip())  # type: ignore[union-attr]
