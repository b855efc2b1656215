"""Pictures of a run: the learning curves, and images with what the network took them for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .train.finder import Search

DPI = 120
FORMATS = (".png", ".svg", ".pdf")
LEGIBLE = 40  # classes that fit on the axes of a confusion matrix with their names


def curves(epochs: Sequence[dict[str, Any]], path: Path) -> Path | None:
    """Loss and top-1 after each epoch, in training and on the test images; `epochs` is what `Run.epochs()` gives.

    Nothing is drawn before the first epoch is over.
    """
    if not epochs:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(10, 4), dpi=DPI, layout="constrained")
    x = [line["epoch"] for line in epochs]
    for axes, what, title in zip(figure.subplots(1, 2), ("loss", "top1"), ("loss", "top-1 accuracy"), strict=True):
        for split, colour in (("train", "tab:blue"), ("test", "tab:orange")):
            y = [line[split][what] for line in epochs]
            axes.plot(x, y, color=colour, label=split, marker="o" if len(x) < 30 else None, markersize=4)
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    best = max(epochs, key=lambda line: line["test"]["top1"])
    axes.annotate(
        f"{best['test']['top1']:.2%}",
        (best["epoch"], best["test"]["top1"]),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )
    return write(figure, path)


def rates(search: Search, path: Path) -> Path:
    """The losses that a growing rate met (see train/finder.py), and where they fall fastest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.plot(search.rates, search.losses, color="tab:blue", alpha=0.3, label="loss of the batch")
    axes.plot(search.rates, search.smoothed, color="tab:blue", label="smoothed")
    axes.axvline(search.best, color="tab:orange", linestyle="--", label=f"falls fastest at {search.best:.3g}")
    low, high = min(search.smoothed), max(search.smoothed[: len(search.smoothed) // 2 + 1])
    axes.set(
        xscale="log", xlabel="learning rate", ylabel="loss", ylim=(low - 0.2 * (high - low), high + 0.5 * (high - low))
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return write(figure, path)


def predictions(images: Sequence[Any], titles: Sequence[str], path: Path, columns: int = 6) -> Path:
    """A sheet of images, each under its title.

    An image is a Pillow image or anything that numpy makes an array of: uint8 (H, W), (H, W, 3), or (1 or 3, H, W).
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
        axes.set_title(title, fontsize=8)
    return write(figure, path)


def confusion(counts: Any, classes: Sequence[str], path: Path) -> Path:
    """A confusion matrix, a row a class: right in blue, wrong in red, each by its share of the row's images.

    `counts` is (classes, classes), see `Scores.confusion`. Few mistakes are to be seen among many images: the shade
    goes by the square root of the share. Counts and names are written out for at most LEGIBLE classes.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    counts = np.asarray(counts)
    n = len(classes)
    share = np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1))
    right = np.eye(n, dtype=bool)[:, :, None]
    side = 2.2 + 0.42 * n if n <= LEGIBLE else 10.0
    figure = Figure(figsize=(side, side), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        np.where(right, colormaps["Blues"](0.75 * share), colormaps["Reds"](0.9 * share)), interpolation="nearest"
    )
    axes.set(xlabel="taken for", ylabel="class", title=f"{np.trace(counts):,} of {counts.sum():,} right")
    if n <= LEGIBLE:
        axes.set_xticks(range(n), classes, rotation=90 if max(map(len, classes)) > 2 else 0)
        axes.set_yticks(range(n), classes)
        for row, column in zip(*counts.nonzero()):
            dark = share[row, column] > (0.7 if row == column else 0.6)
            colour = "white" if dark else "black"
            axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=8, color=colour)
    return write(figure, path)


def pixels(image: Any) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3), whichever of the layouts the image has."""
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] not in (1, 3) and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array


def write(figure: Figure, path: Path) -> Path:
    """Writes the picture, whole or not at all, in the format of its suffix (of FORMATS)."""
    path = Path(path)
    new = path.with_name(f".{path.name}.new")
    try:
        figure.savefig(new, format=path.suffix.removeprefix("."))
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    return path
