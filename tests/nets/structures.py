"""The distinct structures of the catalogue: its variants, numbers aside."""

from __future__ import annotations

from convatlas import tables
from convatlas.catalogue import Variant, variants


def structures() -> list[Variant]:
    """One variant, the cheapest, for each class and each combination of its options that are not numbers.

    Those choose blocks, shortcuts, padding or heads; widths, depths, rates and images only make a network larger.
    """
    cheapest: dict[object, Variant] = {}
    for variant in sorted(variants().values(), key=cost):
        cheapest.setdefault((variant.net, structure(variant)), variant)
    return list(cheapest.values())


def structure(variant: Variant) -> str:
    return str({name: "a number" if is_number(value) else value for name, value in variant.options.items()})


def is_number(value: object) -> bool:
    """Whether it is a number, or consists of them. Zero and the truths are not: they leave something out."""
    if isinstance(value, tuple | list):
        return all(map(is_number, value))
    return isinstance(value, int | float) and not isinstance(value, bool) and value != 0


def cost(variant: Variant) -> int:
    totals = tables.index()[variant.name]["totals"]
    return totals["weights"] + totals["macs"]
