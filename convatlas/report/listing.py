"""The networks of the catalogue, one per line: costs and published accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..tables.published import Published
from ..tables.search import Found
from .tables import Column, Report, Table, label, number, prose, written

if TYPE_CHECKING:
    from ..engines.latency.profile import Estimate

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


SECONDS = ("latency_s", "latency_low_s", "latency_high_s")


def seconds(time: Estimate | None) -> tuple[float, ...]:
    return (time.median_s, time.low_s, time.high_s) if time else ()


def report(
    found: Sequence[Found],
    dataset: str,
    latency: Mapping[str, Estimate] | None = None,
    limits_s: Sequence[float] = (),
) -> Report:
    """`latency` adds a column of estimated times, with a "?" where one of the limits lies inside the interval."""

    def time(f: Found) -> str:
        of = times[f.entry["name"]]
        return f"{of.short}{'?' if undecided(of, limits_s) else ''}"

    times = latency or {}
    columns = (
        label("network", "name"),
        label("paper", drop=5),
        label("input", drop=3),
        number("parameters", "params", brief="params"),
        number("multiply-adds", "macs", brief="MACs"),
        *([Column("latency", right=True)] if times else []),
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
            *([time(f)] if times else []),
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
            *([estimated(found, times, limits_s)] if times and found else []),
        ),
        record={
            "dataset": dataset,
            "networks": [record(f, times.get(f.entry["name"]), limits_s) for f in found],
        },
        data=Table(
            "networks",
            tuple(map(label, (*CSV, *(SECONDS if times else ())))),
            [[*(cell(f) for cell in CSV.values()), *seconds(times.get(f.entry["name"]))] for f in found],
        ),
    )


def record(found: Found, time: Estimate | None = None, limits_s: Sequence[float] = ()) -> dict[str, Any]:
    """A network's JSON: its index entry, its accuracy as a number in percent, its estimated time if there is one."""
    of = found.published
    figure = of and {**of._asdict(), "top1": float(of.top1), "top5": of.top5 and float(of.top5)}
    latency = {"latency": time.to_json() | {"undecided": undecided(time, limits_s)}} if time else {}
    return {**found.entry, "published": figure, **latency}


def estimated(found: Sequence[Found], times: Mapping[str, Estimate], limits_s: Sequence[float]) -> str:
    """What the column of times means."""
    keys = {str(times[f.entry["name"]].key): None for f in found}
    unsure = sum(undecided(times[f.entry["name"]], limits_s) for f in found)
    last = f" ? {unsure} undecided: the limit lies inside the interval of the estimate." if unsure else ""
    return f"latency: of one image, estimated on this machine: {'; '.join(keys)}.{last}"


def undecided(time: Estimate, limits_s: Sequence[float]) -> bool:
    return any(time.within(limit) is None for limit in limits_s)


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
