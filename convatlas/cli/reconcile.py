"""`convatlas reconcile`: what other counters say of a network, and every difference from our count."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..catalogue import find
from .output import parse_input, print_json, print_table, size

if TYPE_CHECKING:
    from ..accounting.counters.reconcile import Reconciled

HELP = "explain what seven other counters say of a network, each difference from our count a line"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a network, as `list` or its paper spells it")
    parser.add_argument("--input", metavar="CxHxW", help="image size (default: the paper's)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> None:
    from ..accounting.counters.reconcile import reconcile

    variant = find(args.name)
    shape = parse_input(args.input) if args.input else variant.input
    assert shape is not None, "family() gives every variant an input"
    found = reconcile(variant, shape)
    if args.json:
        print_json(to_json(variant.name, shape, found))
        return
    print(f"{variant.name}, one image of {size(shape)}, as each counter counts it:")
    for tool, reconciled in found.items():
        print_table((tool, "", ""), rows(reconciled), left=1)


def rows(reconciled: Reconciled) -> list[tuple[str, str, str]]:
    """Our multiply-accumulates, each difference with the number of places it sums, and the tool's own total."""
    return [
        ("multiply-accumulates, as we count", "", f"{reconciled.macs:,}"),
        *((line.reason, f"{line.times} x", f"{line.amount:+,}") for line in reconciled.lines),
        (f"= its {reconciled.unit}", "", f"{reconciled.total:,}"),
    ]


def to_json(name: str, shape: tuple[int, ...], found: dict[str, Reconciled]) -> dict[str, Any]:
    return {
        "name": name,
        "input": shape,
        "macs": next(iter(found.values())).macs,
        "tools": {
            tool: {"unit": r.unit, "total": r.total, "differences": [line._asdict() for line in r.lines]}
            for tool, r in found.items()
        },
    }
