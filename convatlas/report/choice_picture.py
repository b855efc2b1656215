"""A choice as a picture: accuracy against what it costs, the limits, the Pareto set, and the pick by name."""

from __future__ import annotations

import io
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choice.choose import Choice
from ..choice.pareto import HIGHEST
from ..files.figure import DPI, drawable, write
from .chart.labels import Label, halo
from .chart.labels import place as write_beside
from .choice_words import BYTES, limit_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#9aa3ad"  # told apart by colour-blind readers
AXES = {
    "top1": "top-1 accuracy (%)",
    "top5": "top-5 accuracy (%)",
    "yours": "top-1 on your images (%)",
    "latency": "latency (ms)",
    "throughput": "images a second",
    "params": "parameters (millions)",
    "macs": "multiply-adds (millions)",
    "size": "file (MB)",
    "memory": "memory of inference (MB)",
}
FACTORS = {"latency": 1e3, "params": 1e-6, "macs": 1e-6, **dict.fromkeys(BYTES, 1e-6)}
ACCURACIES = ("top1", "top5", "yours")
FEWEST = 3  # networks that were judged on the user's images, to be drawn by that
NAMED = 12  # of the Pareto set


def draw(choice: Choice, path: Path) -> Path:
    """Writes the picture; raises as `files.figure.write`."""
    return write(figure(choice), path)


def as_url(choice: Choice) -> str:
    """The picture as a data: URL."""
    out: Any = io.BytesIO()
    figure(choice).savefig(out, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + b64encode(out.getvalue()).decode()


def cost_axis(choice: Choice) -> str:
    """What the accuracy is drawn against: the objective, else the first cost that is limited, time before others."""
    asked = [*choice.certificate.indices, *(bound.quantity for bound in choice.certificate.bounds)]
    costs = [name for name in asked if name in AXES and name not in ACCURACIES]
    timed = [name for name in costs if name in ("latency", "throughput")]
    first = choice.request.objective
    return first if first in costs else (*timed, *costs, "macs")[0]


def figure(choice: Choice) -> Figure:
    """Accuracy upwards, the cost on a logarithmic axis."""
    from matplotlib.figure import Figure

    certificate, across = choice.certificate, cost_axis(choice)
    up = "top5" if choice.request.objective == "top5" else "top1"
    if choice.yours and len(choice.yours.ranks) >= FEWEST:
        up = "yours"
    drawn = Figure(figsize=(11, 6.2), dpi=DPI, layout="constrained")
    axes = drawn.subplots()

    def at(name: str) -> tuple[float, float] | None:
        values = certificate.judged[name].candidate.values
        x, y = values.get(across), values.get(up)
        return None if x is None or y is None else (x.value * FACTORS.get(across, 1), y.value)

    pareto = [(name, place) for name in certificate.pareto if (place := at(name))]
    groups: list[tuple[str, list[str], dict[str, Any]]] = [
        ("refused", certificate.of_status("refused"), dict(c=GREY, s=16, alpha=0.6, marker="x", linewidths=1)),
        ("undecided", certificate.of_status("undecided"), dict(facecolors="none", edgecolors=ORANGE, s=46)),
        (
            "fits",
            [n for n in certificate.of_status("fits") if n not in certificate.pareto],
            dict(c=BLUE, s=22, alpha=0.5),
        ),
    ]
    for text, names, style in groups:
        if places := [place for name in names if (place := at(name))]:
            axes.scatter([x for x, _ in places], [y for _, y in places], label=f"{text} ({len(places)})", **style)
    for name in certificate.of_status("undecided"):
        of, place = certificate.judged[name].candidate.values.get(across), at(name)
        if of is not None and place is not None:
            low, high = (end * FACTORS.get(across, 1) for end in (of.low, of.high))
            axes.plot([low, high], [place[1]] * 2, color=ORANGE, linewidth=1, alpha=0.7)
    if pareto:
        axes.scatter(
            [x for _, (x, _) in pareto],
            [y for _, (_, y) in pareto],
            c=BLUE,
            s=52,
            zorder=3,
            label=f"Pareto set ({len(pareto)})",
        )
    axes.set_xscale("log")
    for bound in certificate.bounds:
        value = bound.value * FACTORS.get(bound.quantity, 1)
        if bound.quantity == across and value > 0:
            axes.axvline(value, color=ORANGE, linestyle="--", linewidth=1.2, label=f"limit {limit_text(bound)}")
        elif bound.quantity == up:
            axes.axhline(value, color=ORANGE, linestyle=":", linewidth=1.5, label=f"limit {limit_text(bound)}")
    axes.set_xlabel(AXES[across], fontsize=13)
    axes.set_ylabel(AXES[up], fontsize=13)
    axes.tick_params(labelsize=11)
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    plain_ticks(axes)
    legend = axes.legend(loc="lower right" if across not in HIGHEST else "lower left", fontsize=10, framealpha=0.9)
    taken: list[Artist] = [legend]
    if certificate.pick and (place := at(certificate.pick)):
        axes.scatter([place[0]], [place[1]], marker="*", c=ORANGE, s=330, zorder=5, edgecolors="white", label="pick")
        taken.append(name_pick(axes, certificate.pick, place, right=across in HIGHEST))
    named = [Label(drawable(name, 40), *at) for name, at in pareto if name != certificate.pick][:NAMED]
    write_beside(axes, named, [(x, y, 52.0) for _, (x, y) in pareto], taken=taken, size=9.5)
    return drawn


def name_pick(axes: Axes, name: str, place: tuple[float, float], right: bool) -> Artist:
    """In the corner where nothing is: what is better than the pick in both would be picked."""
    return axes.annotate(
        drawable(name, 60),
        place,
        (0.98 if right else 0.02, 0.96),
        textcoords="axes fraction",
        ha="right" if right else "left",
        va="top",
        fontsize=13,
        fontweight="bold",
        color=ORANGE,
        zorder=6,
        path_effects=halo(3),
        arrowprops=dict(arrowstyle="-", color=ORANGE, shrinkB=9),
    )


def plain_ticks(axes: Axes) -> None:
    """1, 2, 5, 10 ... written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
