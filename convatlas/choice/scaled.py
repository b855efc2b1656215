"""The largest network that fits between the published points: of families that scale, by exact counts.

A family's options are the numbers that its paper scales by, and its own rounding of channels and layers holds, because
each network is built as the catalogue builds it. Of what is within all limits the largest has the most multiply-adds,
then the most parameters. How accurate it is nobody has measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

from ..accounting.exported import FLOAT32
from ..catalogue import Shape
from ..errors import UserError
from ..limits import Limit
from ..tables import entry
from . import costs
from .certificate import Bound, Value
from .pareto import HIGHEST

if TYPE_CHECKING:
    from ..accounting import Account
    from ..accounting.symbolic import Counts, Symbolic

SIDE = "side"  # the axis of the image; all others are options of the network
ACCURACIES = ("top1", "top5", "yours")
ESTIMATED = (*costs.TIMED, "memory")
STEP = 16  # pixels between the images that are tried
AHEAD = 3  # steps beyond the first that is too slow: times do not grow quite evenly with the channels

Further = Callable[["Point", str], Value | None]  # what the formula does not have: counted, estimated or predicted
Tell = Callable[[float, str], None]


def steps(first: float, last: float, step: float) -> tuple[float, ...]:
    """All values from the first to the last, both included: 0.25, 0.26 ... 1.0."""
    return tuple(round(first + i * step, 6) for i in range(round((last - first) / step) + 1))


@dataclass(frozen=True)
class Family:
    """A network and its axes. Costs grow along the last one; the largest value that fits is found there by halving."""

    network: str
    axes: Mapping[str, Sequence[float]]

    def __str__(self) -> str:
        return ", ".join(spanned(name, values) for name, values in self.axes.items())


FAMILIES = {
    "imagenet": (
        Family("mobilenet_v1", {SIDE: range(128, 225, STEP), "width": steps(0.25, 1, 0.01)}),
        Family("mobilenet_v2", {SIDE: range(96, 225, STEP), "width": steps(0.35, 1.4, 0.01)}),
        Family("efficientnet_b0", {"phi": steps(0, 7, 0.1)}),  # which gives the image
        Family("wrn50_2", {"depth": (18, 34, 50, 101), "width": steps(1, 3, 0.1)}),
    ),
    "cifar": (Family("wrn28_10", {"depth": range(10, 53, 6), "width": steps(1, 12, 0.1)}),),
}
OF_CIFAR = ("cifar10", "cifar100", "svhn")


def spanned(name: str, values: Sequence[float]) -> str:
    """ "width 0.25 to 1 by 0.01", or each value where they are few."""
    if len(values) < 6:
        return f"{name} {', '.join(f'{value:g}' for value in values)}"
    return f"{name} {values[0]:g} to {values[-1]:g} by {values[1] - values[0]:g}"


def families(dataset: str, networks: Sequence[str]) -> tuple[Family, ...]:
    """Those that scale on a data set; or of each of the networks, which is scaled by its image if by nothing else."""
    known = {it.network: it for of in FAMILIES.values() for it in of}
    if networks:
        names = dict.fromkeys(entry(name)["name"] for name in networks)
        return tuple(known.get(name) or by_image(name) for name in names)
    return FAMILIES["cifar" if dataset in OF_CIFAR else "imagenet"] if dataset != "mnist" else ()


def by_image(network: str) -> Family:
    """Images from a quarter of its own to twice that."""
    own = max(entry(network)["input"][1:])
    step = max(1, min(STEP, own // 14))
    return Family(network, {SIDE: range(max(own // 4 // step, 1) * step, 2 * own + 1, step)})


@dataclass(frozen=True)
class Point:
    """A network of a family, and what it costs: counted, estimated or predicted when it is asked for."""

    network: str
    at: tuple[tuple[str, float], ...]  # the axes
    further: Further = field(compare=False, repr=False)

    @property
    def options(self) -> dict[str, Any]:
        return {name: value for name, value in self.at if name != SIDE}

    @cached_property
    def formula(self) -> tuple[Symbolic, Shape]:
        return formula(self.network, tuple(self.options.items()))

    @cached_property
    def input(self) -> Shape:
        usual, side = self.formula[1], dict(self.at).get(SIDE)
        return usual if side is None else (usual[0], int(side), int(side))

    @cached_property
    def counts(self) -> Counts | None:
        """By the formula for all images; None for an image that the network cannot take."""
        try:
            return self.formula[0](*self.input[1:])
        except UserError:
            return None

    @cached_property
    def account(self) -> Account:
        """Layer by layer, for what the formula does not have."""
        return account_of(self.network, tuple(self.options.items()), self.input)

    def value(self, quantity: str) -> Value | None:
        """None for an accuracy: nobody has measured it."""
        assert self.counts is not None
        if quantity in BY_FORMULA:
            return Value.exact(BY_FORMULA[quantity](self.counts))
        return self.further(self, quantity)

    @property
    def size(self) -> tuple[int, int]:
        assert self.counts is not None
        return self.counts.macs, self.counts.params

    @property
    def settings(self) -> str:
        """As options of `show`."""
        changes = "".join(f" --set {name}={value:g}" for name, value in self.options.items())
        image = f" --input {'x'.join(map(str, self.input))}" if self.input != self.formula[1] else ""
        return f"{self.network}{changes}{image}"


BY_FORMULA: dict[str, Callable[[Counts], int]] = {
    "params": lambda counts: counts.params,
    "bytes": lambda counts: FLOAT32 * counts.params,
    "macs": lambda counts: counts.macs,
    "activations": lambda counts: counts.activations,
}


@cache
def formula(network: str, options: tuple[tuple[str, float], ...]) -> tuple[Symbolic, Shape]:
    """Of all images; and the image that is usual with these options."""
    from ..accounting.symbolic import of_variant
    from ..catalogue import find

    variant = find(network)
    usual = variant.chosen(dict(options))[1]
    assert usual is not None
    return of_variant(variant, usual, **dict(options)), usual


@lru_cache(256)
def account_of(network: str, options: tuple[tuple[str, Any], ...], input: Shape) -> Account:
    from ..accounting import account

    return replace(account(network, input=input, **dict(options)), trace=None)


@dataclass(frozen=True)
class Largest:
    """What a family has within the limits: the largest point, with what it costs, or why there is none."""

    family: Family
    point: Point | None = None
    values: Mapping[str, Value | None] = field(default_factory=dict)
    broken: Bound | None = None  # by the smallest point, or by all

    def to_json(self) -> dict[str, Any]:
        point = self.point
        return {
            "network": self.family.network,
            "searched": {name: [values[0], values[-1], len(values)] for name, values in self.family.axes.items()},
            "options": point and point.options,
            "input": point and list(point.input),
            "values": {name: of and of._asdict() for name, of in self.values.items()},
            "broken": self.broken and self.broken._asdict(),
            "show": point and f"convatlas show {point.settings}",
            "train": point and f"convatlas train {point.settings.replace('--set ', '--set net.')} --data DATA",
        }


def largest(family: Family, limits: Iterable[Limit], further: Further) -> Largest:
    """The largest point of a family that is surely within the limits; those on accuracies are not judged.

    Costs grow along the last axis, so that what is within the upper limits is found by halving, for each value of the
    other axes; the lower limits are then judged there, where they hold if anywhere.
    """
    bounds = [Bound.of(limit) for limit in limits if limit.quantity not in ACCURACIES]
    upper = [relaxed(bound) for bound in bounds if ceiling(bound)]
    upper.sort(key=lambda bound: bound.quantity in ESTIMATED)
    (*others, last) = family.axes
    ends: list[Point] = []
    first = None
    for values in product(*(family.axes[name] for name in others)):
        at = tuple(zip(others, values, strict=True))
        line = [Point(family.network, (*at, (last, value)), further) for value in family.axes[last]]
        if last == SIDE:
            line = [point for point in line if point.counts]
        first = first or line[0]
        if point := last_within(line, upper):
            ends.append(point)
    found = [point for point in ends if not broken(point, bounds)]
    if found:
        best = max(found, key=lambda point: point.size)
        asked = dict.fromkeys(("params", "macs", *(bound.quantity for bound in bounds)))
        return Largest(family, best, {name: best.value(name) for name in asked})
    tried = max(ends, key=lambda point: point.size) if ends else first
    return Largest(family, broken=broken(tried, bounds) if tried else None)


def broken(point: Point, bounds: Sequence[Bound]) -> Bound | None:
    """The first limit that the point is not surely within."""
    return next((bound for bound in bounds if not bound.holds(point.value(bound.quantity))), None)


def ceiling(bound: Bound) -> bool:
    """Whether the limit is on how large a network may be."""
    return bound.op == "=" or (bound.op[0] == "<") != (bound.quantity in HIGHEST)


def relaxed(bound: Bound) -> Bound:
    """An equality as the limit that it is to what is larger."""
    if bound.op != "=":
        return bound
    return bound._replace(op=">=" if bound.quantity in HIGHEST else "<=")


def last_within(line: Sequence[Point], bounds: Sequence[Bound]) -> Point | None:
    """The last of the points that all bounds hold for, where those of all before it do."""
    low, high = -1, len(line)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if not broken(line[middle], bounds) else (low, middle)
    if any(bound.quantity in ESTIMATED for bound in bounds):
        ahead = range(min(low + AHEAD, len(line) - 1), low, -1)
        low = next((i for i in ahead if not broken(line[i], bounds)), low)
    return line[low] if low >= 0 else None


def further(engine: str, threads: int, batch: int) -> Further:
    """What points cost besides: counted layer by layer, estimated by this machine's profiles, or predicted."""

    def value(point: Point, quantity: str) -> Value | None:
        if quantity in costs.TIMED:
            return costs.timed(costs.latency_of(point.account, engine, threads, batch), batch)[quantity]
        if quantity == "memory":
            from ..catalogue import find
            from ..layers import on_meta

            with on_meta():
                net = find(point.network).build(input=point.input, **point.options)
            return costs.memory_of(net, batch)
        return costs.of_account(point.account, entry(point.network)["paper"]["year"]).get(quantity)

    return value


def scaled(
    found: Sequence[Family], limits: Sequence[Limit], engine: str, threads: int, batch: int, tell: Tell
) -> list[Largest]:
    """The largest of each family."""
    made = []
    for i, family in enumerate(found):
        tell(i / len(found), f"scaling {family.network}")
        made.append(largest(family, limits, further(engine, threads, batch)))
    return made
