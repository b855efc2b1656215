"""What a chart is: panels of points, each with its source. draw.py draws it, points.py writes it as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal

Marks = Literal["points", "lines", "columns", "bars"]  # bars lie on their side, which leaves room for long names


@dataclass(frozen=True)
class Point:
    """One mark. The points of a group are drawn alike, in the order of their panel; of `lines`, they are joined."""

    name: str  # what it is of
    x: float | str  # a word is a category: one column or bar each
    y: float
    source: str  # who says so, and where
    label: str = ""  # written beside it, as far as there is room
    group: str = ""  # in the legend, unless its labels say the same
    size: float | None = None  # the area of a bubble
    low: float | None = None  # the ends of an interval of y
    high: float | None = None
    thin: bool = False  # of a second line of its group, without marks

    def __post_init__(self) -> None:
        assert self.source, f"{self.name} has no source"
        assert all(isfinite(n) for n in (self.x, self.y) if not isinstance(n, str)), self


@dataclass(frozen=True)
class Line:
    """y = intercept + slope * x across the whole panel: a fit, a limit."""

    text: str  # written at its end
    source: str
    intercept: float
    slope: float = 0.0


@dataclass(frozen=True)
class Panel:
    """Axes with their points. With `bars` x stands upwards and y to the right."""

    x: str  # what x is, with its unit
    y: str
    points: tuple[Point, ...]
    marks: Marks = "points"
    lines: tuple[Line, ...] = ()
    size: str = ""  # what the area of a bubble is, with its unit
    title: str = ""
    log_x: bool = False
    log_y: bool = False
    ticks: tuple[float, ...] = ()  # of x, instead of round numbers
    height: float = 1.0  # beside the other panels of a stack


@dataclass(frozen=True)
class Chart:
    """One panel or several, side by side with one y axis, or stacked over one x axis. A group looks alike in all."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    note: str  # by which protocol, and from where: what a reader must know to compare the points
    stacked: bool = False
    groups: tuple[str, ...] = ()  # in this order, where it is not that of the points

    @property
    def points(self) -> list[tuple[Panel, Point]]:
        return [(panel, point) for panel in self.panels for point in panel.points]


@dataclass(frozen=True)
class Asked:
    """What a chart is to be drawn from; None and () are its own choice."""

    files: tuple[Path, ...] = ()
    networks: str | None = None  # a pattern, as `list` takes it
    dataset: str | None = None
    tell: Callable[[float, str], None] = lambda done, what: None
