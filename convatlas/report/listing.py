"""The networks of the catalogue, one per line: costs and published accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..tables.published import Published
from ..tables.search import Found
from .tables import Column, Report, Table, label, number, prose, written

CSV: dict[str, Callable[[Found], Any]] = {  # the first five are timm's, in millions and billions
    "model": lambda f: f.entry["name"],
    "img_size": lambda f: _img_size(f.entry["input"]),
    "param_count": lambda f: round(f.entry["totals"]["params"] / 1e6, 2),
    "gmacs": lambda f: round(f.entry["totals"]["macs"] / 1e9, 2),
    "macts": lambda f: round(f.entry["multiplied_activations"] / 1e6, 2),
    "channels": lambda f: f.entry["input"][0],
    "params": lambda f: f.quantities["params"],
    "weights": lambda f: f.quantities["weights"],
    "macs": lambda f: f.quantities["macs"],
    "activations": lambda f: f.quantities["activations"],
    "depth": lambda f: f.entry["depth"],
    "top1": lambda f: f.quantities["top1"],
    "top5": lambda f: f.quantities["top5"],
    "protocol": lambda f: f.published and f.published.protocol,
    "family": lambda f: f.entry["family"],
    "year": lambda f: f.entry["paper"]["year"],
    "file": lambda f: f.entry["file"],
}


def report(found: Sequence[Found], dataset: str) -> Report:
    columns = (
        label("network", "name"),
        label("paper", drop=5),
        label("input", drop=3),
        number("parameters", "params", brief="params"),
        number("multiply-adds", "macs", brief="MACs"),
        number("top-1", "top1", show=accuracy, short=None),
        prose("protocol", drop=4),
        Column("file", short=lambda file: file.rpartition("/")[2], drop=2),
    )
    rows = [
        (
            f.entry["name"],
            cited(f.entry["paper"]),
            tuple(f.entry["input"]),
            f.entry["totals"]["params"],
            f.entry["totals"]["macs"],
            f.published,
            f.published and f.published.protocol,
            f.entry["file"],
        )
        for f in found
    ]
    judged = "one centre crop of ImageNet" if dataset == "imagenet" else f"the whole images of {dataset}"
    return Report(
        Table("networks", columns, rows),
        after=(
            f"{len(rows)} networks. `convatlas show NAME` prints one layer by layer, beside its paper's figures.",
            f"top-1: published accuracy (%) of a single model on {judged}; * by another protocol.",
        ),
        record={"dataset": dataset, "networks": [record(f) for f in found]},
        data=Table("networks", tuple(map(label, CSV)), [[cell(f) for cell in CSV.values()] for f in found]),
    )


def record(found: Found) -> dict[str, Any]:
    """A network's JSON: its index entry, and its accuracy as a number in percent."""
    of = found.published
    figure = of and {**of._asdict(), "top1": float(of.top1), "top5": of.top5 and float(of.top5)}
    return {**found.entry, "published": figure}


def cited(paper: dict[str, Any]) -> str:
    """ "He 2015"."""
    return f"{paper['authors'].split(',')[0].split(' and ')[0]} {paper['year']}"


def accuracy(figure: Published) -> str:
    """At most two decimals, decimal points aligned, with a star if the protocol is not the usual one."""
    whole, _, decimals = str(min(figure.top1, round(figure.top1, 2), key=lambda n: len(str(n)))).partition(".")
    point = "." if decimals else " "
    return f"{whole}{point}{decimals}{' ' if figure.usual else '*'}" + " " * (2 - len(decimals))


def _img_size(input: Sequence[int]) -> int | str:
    _, height, width = input
    return height if height == width else written((height, width))
