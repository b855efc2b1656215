"""`convatlas list`: every network of the atlas, its size, its cost and its file."""

from __future__ import annotations

import argparse
from fnmatch import fnmatch

from ..catalogue import plain
from ..errors import UserError, unknown
from ..tables import index
from .output import print_json, print_table, size

HELP = "list the networks: name, input, parameters, multiply-adds, file"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", metavar="PATTERN", help="part of a name, or a pattern such as 'resnet*'")
    parser.add_argument("--family", metavar="F", help="only this family, such as vgg")
    parser.add_argument("--json", action="store_true", help="print JSON")


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
            raise UserError(f"no network matches {args.pattern!r}; `convatlas list` shows them all")
    if args.json:
        print_json(records)
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
