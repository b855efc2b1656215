"""`convatlas list`: every network of the atlas, its size, its cost and its file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

from ..catalogue import plain
from ..errors import UserError, unknown
from ..report.tables import csv_table
from ..tables import index
from .output import print_json, print_table, size

# header: its cell. The first five are timm's: in millions and thousand millions, to two decimals; docs/reports.md.
CSV: dict[str, Callable[[dict[str, Any]], Any]] = {
    "model": lambda r: r["name"],
    "img_size": lambda r: r["input"][1] if r["input"][1] == r["input"][2] else size(r["input"][1:]),
    "param_count": lambda r: round(r["totals"]["params"] / 1e6, 2),
    "gmacs": lambda r: round(r["totals"]["macs"] / 1e9, 2),
    "macts": lambda r: round(r["multiplied_activations"] / 1e6, 2),
    "channels": lambda r: r["input"][0],
    "params": lambda r: r["totals"]["params"],
    "weights": lambda r: r["totals"]["weights"],
    "macs": lambda r: r["totals"]["macs"],
    "activations": lambda r: r["totals"]["activations"],
    "family": lambda r: r["family"],
    "year": lambda r: r["paper"]["year"],
    "file": lambda r: r["file"],
}

HELP = "list the networks: name, input, parameters, multiply-adds, file"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", metavar="PATTERN", help="part of a name, or a pattern such as 'resnet*'")
    parser.add_argument("--family", metavar="F", help="only this family, such as vgg")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV, with timm's headers where they mean the same")


def run(args: argparse.Namespace) -> None:
    records = list(index().values())
    if args.family is not None:
        families = sorted({r["family"] for r in records})
        if args.family not in families:
            raise unknown("family", args.family, families)
        records = [r for r in records if r["family"] == args.family]
    if args.pattern is not None:
        records = [r for r in records if matches(args.pattern, [r["name"], *r["aliases"]])]
        if not records:
            raise UserError(f"no network matches {args.pattern!r}", "`convatlas list` shows them all")
    if args.json:
        print_json({"networks": records})
        return
    if args.csv:
        print(csv_table(list(CSV), ([cell(r) for cell in CSV.values()] for r in records)))
        return
    print_table(
        ("network", "paper", "input", "parameters", "multiply-adds", "file"),
        (
            (
                r["name"],
                f"{r['paper']['authors'].split(',')[0].split(' and ')[0]} {r['paper']['year']}",
                size(r["input"]),
                f"{r['totals']['params']:,}",
                f"{r['totals']['macs']:,}",
                r["file"],
            )
            for r in records
        ),
        left=3,
    )
    print(f"{len(records)} networks. `convatlas show NAME` prints one layer by layer, beside its paper's figures.")


def matches(pattern: str, names: list[str]) -> bool:
    wild = any(sign in pattern for sign in "*?[")
    if wild:
        return any(fnmatch(name.lower(), pattern.lower()) for name in names)
    return any(plain(pattern) in plain(name) for name in names)
