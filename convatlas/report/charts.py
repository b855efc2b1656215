"""Plots: learning-rate sweeps, predictions, confusion matrices, reliability diagrams and receptive fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..accounting.layer_graph import LayerGraph
from ..accounting.rows import stage_of
from ..errors import UserError
from ..files.figure import DPI, drawable, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..evaluation.scores import Scores


LEGIBLE = 40  # at most so many class names fit on the axes of a confusion matrix


def rates(search: Mapping[str, Any], path: Path) -> Path:
    """Plots loss against learning rate (`Search.to_json` of train/finder.py), and marks the steepest descent."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    rates, smoothed, best = search["rates"], search["smoothed"], search["best"]
    axes.plot(rates, search["losses"], color="tab:blue", alpha=0.3, label="loss of the batch")
    axes.plot(rates, smoothed, color="tab:blue", label="smoothed")
    axes.axvline(best, color="tab:orange", linestyle="--", label=f"falls fastest at {best:.3g}")
    low, high = min(search["losses"]), max(smoothed[: len(smoothed) // 2 + 1])  # without the divergence at the end
    margin = 0.1 * (high - low)
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(low - margin, high + 3 * margin))
    axes.grid(alpha=0.3)
    axes.legend()
    return write(figure, path)


def predictions(images: Sequence[Any], titles: Sequence[str], path: Path, columns: int = 6) -> Path:
    """A grid of images, each under its title.

    An image is a Pillow image or anything that numpy converts to an array: uint8 (H, W), (H, W, 3), or (1 or 3, H, W).
    """
    from matplotlib.figure import Figure

    assert len(images) == len(titles), (len(images), len(titles))
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(1.7 * columns, 2.0 * rows), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        axes.imshow(pixels(image), cmap="gray", vmin=0, vmax=255)
        axes.set_title("\n".join(map(drawable, title.split("\n"))), fontsize=8)
    return write(figure, path)


def confusion(counts: Any, classes: Sequence[str], path: Path) -> Path:
    """A confusion matrix, rows being the correct classes: correct in blue, wrong in red, shaded by share of the row.

    `counts` is (classes, classes), see `Scores.confusion`. The shade follows the square root of the share, so that a
    few mistakes among many images are visible. Counts and names are printed for at most LEGIBLE classes.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    counts = np.asarray(counts)
    n = len(classes)
    share = np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1))
    right = np.eye(n, dtype=bool)[:, :, None]
    names = [drawable(name, 40) for name in classes]
    side = 2.2 + 0.42 * n + 0.08 * max(0, max(map(len, names)) - 12) if n <= LEGIBLE else 10.0
    figure = Figure(figsize=(side, side), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        np.where(right, colormaps["Blues"](0.75 * share), colormaps["Reds"](0.9 * share)), interpolation="nearest"
    )
    axes.set(xlabel="predicted class", ylabel="right class", title=f"{np.trace(counts):,} of {counts.sum():,} right")
    if n <= LEGIBLE:
        axes.set_xticks(range(n), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(n), names)
        for row, column in zip(*counts.nonzero()):
            dark = share[row, column] > (0.7 if row == column else 0.6)
            colour = "white" if dark else "black"
            axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=8, color=colour)
    return write(figure, path)


def reliability(scores: Scores, path: Path) -> Path:
    """A reliability diagram (Guo et al., 2017): accuracy against confidence by bin, and how many images each has."""
    from matplotlib.figure import Figure

    bins = [b for b in scores.bins() if b.images]
    at = [(b.low + b.high) / 2 for b in bins]
    width = 1 / len(scores.bins())
    figure = Figure(figsize=(5, 6), dpi=DPI, layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    top.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--", label="as sure as it is right")
    top.bar(at, [b.accuracy or 0.0 for b in bins], width, color="tab:blue", edgecolor="white", label="right")
    sure, edges = [b.confidence or 0.0 for b in bins], ([b.low for b in bins], [b.high for b in bins])
    top.hlines(sure, *edges, color="tab:orange", linewidth=2.5, label="mean probability given to the prediction")
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of images that are right")
    top.set_title(f"{scores.n:,} images, expected calibration error {scores.ece:.2%}")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    below.bar(at, [b.images for b in bins], width, color="0.6", edgecolor="white")
    below.set(xlabel="probability of the predicted class", ylabel="images")
    for axes in (top, below):
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    return write(figure, path)


def receptive_field(of: LayerGraph, path: Path, *, dark: bool = False) -> Path:
    """Plots each layer's receptive field to a PNG, SVG or PDF file; see `receptive_figure`."""
    return write(receptive_figure(of, dark=dark), path)


def receptive_figure(of: LayerGraph, *, dark: bool = False) -> Figure:
    """Top, in pixels along the image's longer side: the receptive field through the branches that see most and least,
    the jump between adjacent positions, and the padding (how far outside the image the first position starts).
    Bottom: what the middle position sees of the image. Layers that do not see every pixel of their field are hollow.

    Raises UserError for a network whose input is not an image.
    """
    from matplotlib import rc_context

    layers = [i for i in of.drawn if of.rows[i].receptive_field and all(of.rows[i].jump)]
    if not layers:
        raise UserError(f"{of.name} has no map of an image, and so no receptive fields to draw")
    with rc_context(_theme(dark)):  # type: ignore[arg-type]
        return _receptive_figure(of, layers)


def _theme(dark: bool) -> dict[str, Any]:
    paper, ink, line = ("#12161c", "#e8edf4", "#36414f") if dark else ("#ffffff", "#1c2430", "#d3dae4")
    inks = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), ink)
    papers = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), paper)
    return {**inks, **papers, "axes.edgecolor": line, "grid.color": line, "svg.fonttype": "none", "font.size": 9}


def _receptive_figure(of: LayerGraph, layers: Sequence[int]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter

    rows = [of.rows[i] for i in layers]
    axis = [int(r.receptive_field[1] > r.receptive_field[0]) for r in rows]  # the longer side
    size, jump, start = (
        np.array([getattr(r, name)[a] for r, a in zip(rows, axis)]) for name in ("receptive_field", "jump", "start")
    )
    narrow = [of.narrowest[i] for i in layers]
    least = np.array([n.size[a] if n else 0 for n, a in zip(narrow, axis)])
    least_start = np.array([n.start[a] if n else 0 for n, a in zip(narrow, axis)])
    middle = np.array([(r.shape[1 + a] - 1) / 2 for r, a in zip(rows, axis)]) * jump
    side, x = max(of.input[1:]), np.arange(1, len(rows) + 1)
    blue, orange, green = "#3b82d6", "#e08a2c", "#2fa36b"

    figure = Figure(figsize=(max(9.0, min(16.0, 3 + 0.16 * len(rows))), 7.5), dpi=DPI, layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    branches = bool((least != size).any())
    top.fill_between(x, least, size, color=blue, alpha=0.18, linewidth=0)
    top.plot(x, size, color=blue, linewidth=1.8, label="receptive field" + (", widest branches" if branches else ""))
    if branches:
        top.plot(x, least, color=blue, linewidth=1, linestyle="--", label="receptive field, narrowest branches")
    for exact in (True, False):
        chosen = np.array([r.exact is exact for r in rows])
        face = blue if exact else top.get_facecolor()
        top.plot(
            x[chosen],
            size[chosen],
            "o",
            color=blue,
            markerfacecolor=face,
            markersize=4.5 if len(rows) < 150 else 2,
            label=None if exact or not chosen.any() else "reads only part of the field, or gates read the whole map",
        )
    top.step(x, jump, where="mid", color=orange, linewidth=1.5, label="jump: distance between adjacent positions")
    top.plot(
        x, -start, color=green, linewidth=1.5, label="padding: how far outside the image the first position starts"
    )
    ink = top.xaxis.label.get_color()
    top.axhline(side, color=ink, linewidth=0.8, linestyle=":", label="side of the image")
    highest = int(np.ceil(np.log2(max(size.max(), side)))) + 0.6
    top.set_yscale("symlog", base=2, linthresh=1)
    top.set_ylim(min(0, float((-start).min())), 2**highest)
    top.yaxis.set_major_locator(FixedLocator([0, *(2**i for i in range(int(highest) + 1))]))
    top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    top.set(ylabel="pixels of the image (log scale)")
    ends = [(size[-1], f"sees {size[-1]:,}", blue), (jump[-1], f"jump {jump[-1]}", orange)]
    ends += [(-start[-1], f"padding {-start[-1]:,}", green)]
    if branches:
        ends.append((least[-1], f"at least {least[-1]:,}", blue))
    _end_labels(top, ends, side)

    low, high = -0.6 * side, 1.6 * side
    below.axhspan(0, side, color=green, alpha=0.13, linewidth=0, label="the image")
    label = "read" + (", widest branches" if branches else "")
    below.bar(x, size, bottom=middle + start, width=0.86, color=blue, alpha=0.35, label=label)
    if branches:
        bottom = middle + least_start
        below.bar(x, least, bottom=bottom, width=0.86, color=blue, alpha=0.75, label="read, narrowest branches")
    axis_name = "columns" if any(axis) else "rows"
    below.set(
        ylim=(high, low), ylabel=f"{axis_name} of the image (pixels)", xlim=(0.2, len(rows) + 0.8), xlabel=of.level
    )
    below.set_yticks([0, side])
    below.set_title("what the middle position reads of the image", loc="left", fontsize=9)
    handles = [*top.get_legend_handles_labels()[0], *below.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    title = f"{drawable(of.name)} on {'x'.join(map(str, of.input))}: what each {of.level} sees of the image"
    _name_layers(top, below, [drawable(r.path) for r in rows], title)
    for axes in (top, below):
        axes.grid(axis="y", alpha=0.6, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _end_labels(axes: Axes, ends: Sequence[tuple[float, str, str]], side: int) -> None:
    """Labels each line at its right end, in its colour; labels that would overlap are stacked."""
    apart, at = 0.055, -1.0
    to_axes = axes.transData + axes.transAxes.inverted()
    ink = axes.xaxis.label.get_color()
    for value, text, colour in sorted([*ends, (side, f"image {side}", ink)], key=lambda end: end[0]):
        at = max(at + apart, float(to_axes.transform((0, value))[1]))
        axes.annotate(text, (1.005, at), xycoords="axes fraction", color=colour, va="center", annotation_clip=False)


def _name_layers(top: Axes, below: Axes, paths: Sequence[str], title: str) -> None:
    """Layer paths along the bottom, if they are legible; stages and title at the top."""
    if len(paths) <= LEGIBLE:
        below.set_xticks(range(1, len(paths) + 1), paths, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
    else:
        below.tick_params(labelbottom=True)
    stages = [stage_of(p).removeprefix("stages.") for p in paths]
    starts = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
    ends = [*starts[1:], len(stages)]
    letter = 0.065 / (top.bbox.width / DPI) * len(paths)  # of a name, in layers
    slant = 0 if all(end - start >= letter * len(stages[start]) for start, end in zip(starts, ends)) else 30
    top.set_title(title, loc="left", fontweight="bold", pad=46 if slant else 22)
    last = -4 * letter
    for n, (start, end) in enumerate(zip(starts, ends)):
        if n % 2:
            for axes in (top, below):
                axes.axvspan(start + 0.5, end + 0.5, color=top.xaxis.label.get_color(), alpha=0.05, linewidth=0)
        if start - last > 3 * letter:
            last = start
            x, beside = (start + 1, "left") if slant else ((start + end + 1) / 2, "center")
            name = top.text(x, 1.01, stages[start], transform=top.get_xaxis_transform(), rotation=slant, fontsize=7.5)
            name.set(horizontalalignment=beside, verticalalignment="bottom", rotation_mode="anchor")


def pixels(image: Any) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3), from either layout."""
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] not in (1, 3) and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
