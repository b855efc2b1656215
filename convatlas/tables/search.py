"""Searches the catalogue by name, by family, and by limits on size, cost and accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from typing import Any, NamedTuple

from ..accounting.exported import FLOAT32
from ..catalogue import plain
from ..errors import UserError, unknown
from ..limits import QUANTITIES, Limit, Number, hold, parse_limit
from . import index
from .published import Published, published

BEST_FIRST = ("top1", "top5")  # sorted in descending order


class Found(NamedTuple):
    """A network's index entry, the quantities for limits and sorting, and its published accuracy."""

    entry: Mapping[str, Any]
    quantities: Mapping[str, Number | None]
    published: Published | None


def names(
    pattern: str | None = None,
    *,
    family: str | None = None,
    limits: Iterable[Limit | str] = (),
    dataset: str = "imagenet",
) -> list[str]:
    """The names of the networks that `search` finds, by year and in their papers' order."""
    return [found.entry["name"] for found in search(pattern, family=family, limits=limits, dataset=dataset)]


def search(
    pattern: str | None = None,
    *,
    family: str | None = None,
    limits: Iterable[Limit | str] = (),
    dataset: str = "imagenet",
    sort: str | None = None,
    reverse: bool = False,
    latency: Mapping[str, Number] | None = None,
) -> list[Found]:
    """The networks with a name or alias that contains `pattern`, or matches it as in "resnet*", within every limit.

    Limits are as in 'params<=5M'; a network without a published accuracy on the data set fails any limit on it. Sorted
    by a quantity of `limits.QUANTITIES` in ascending order, accuracies in descending order, or the opposite with
    `reverse`; networks without a value come last. `latency` has seconds by name, which no table has.

    Raises UserError for an unknown family, data set or quantity, for a pattern that no name matches, and for a limit
    on latency without any.
    """
    families = list(dict.fromkeys(entry["family"] for entry in index().values()))
    if family is not None and family not in families:
        raise unknown("family", family, families)
    if sort is not None and sort not in QUANTITIES:
        raise unknown("quantity", sort, QUANTITIES)
    asked = [parse_limit(limit) if isinstance(limit, str) else limit for limit in limits]
    if latency is None and "latency" in (sort, *(limit.quantity for limit in asked)):
        raise UserError("latencies are of a machine, and in no table", "give them: see `convatlas calibrate`")
    chosen = [e for e in index().values() if family in (None, e["family"])]
    if pattern is not None:
        chosen = [entry for entry in chosen if matches(pattern, [entry["name"], *entry["aliases"]])]
        if not chosen:
            within = f" in family {family}" if family else ""
            raise UserError(f"no network matches {pattern!r}{within}", "`convatlas list` shows them all")
    times = latency or {}
    found = [
        Found(entry, quantities(entry, of) | {"latency": times.get(entry["name"])}, of)
        for entry in chosen
        for of in [published(entry, dataset)]
    ]
    found = [it for it in found if hold(asked, it.quantities)]
    if sort is None:
        return found[::-1] if reverse else found
    known = [it for it in found if it.quantities[sort] is not None]
    known.sort(key=lambda it: it.quantities[sort] or 0, reverse=reverse != (sort in BEST_FIRST))
    return known + [it for it in found if it.quantities[sort] is None]


def quantities(entry: Mapping[str, Any], accuracy: Published | None) -> dict[str, Number | None]:
    """The values of `limits.QUANTITIES` except latency, for one image at the network's default input."""
    totals, (channels, *sides) = entry["totals"], entry["input"]
    return {
        **{name: totals[name] for name in ("params", "weights", "macs", "training_macs", "activations")},
        "bytes": totals["params"] * FLOAT32,
        "depth": entry["depth"],
        "side": max(sides),
        "channels": channels,
        "year": entry["paper"]["year"],
        "top1": accuracy and accuracy.top1,
        "top5": accuracy and accuracy.top5,
    }


def matches(pattern: str, names: list[str]) -> bool:
    if any(sign in pattern for sign in "*?["):
        return any(fnmatch(name.lower(), pattern.lower()) for name in names)
    return any(plain(pattern) in plain(name) for name in names)
