"""`convatlas diff`: two networks layer by layer, what each difference costs, and whose weights load into whose."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..accounting.rows import LEVELS, Account
from ..tables import entry, load
from .output import parse_input, print_json, print_table, write_file

if TYPE_CHECKING:
    from ..accounting.weight_match import WeightMatch

HELP = "compare two networks layer by layer, and say what each difference costs"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="a network, as `list` or its paper spells it")
    parser.add_argument("b", metavar="B", help="another")
    parser.add_argument("--level", choices=LEVELS, default="layer", help="how fine the rows are (default layer)")
    parser.add_argument("--input", metavar="CxHxW", help="image size of both (default: each paper's)")
    parser.add_argument("--classes", metavar="N", type=int, help="number of classes of both (default: each paper's)")
    parser.add_argument("--weights", action="store_true", help="say which of A's weights load into B")
    parser.add_argument("--all", action="store_true", help="list the layers that are alike, too")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print the differences as CSV")
    form.add_argument("--md", action="store_true", help="print Markdown")
    form.add_argument("--html", metavar="FILE", type=Path, help="write a page, to be opened from disk")


def run(args: argparse.Namespace) -> None:
    names = entry(args.a)["name"], entry(args.b)["name"]
    from ..accounting.diff import diff
    from ..report import comparison

    a, b = (count(name, args) for name in names)
    found = diff(a, b, args.level)
    told = compare_weights(names, args) if args.weights else None
    if args.json:
        print_json(comparison.record(found, told, args.all))
    elif args.csv:
        print(comparison.csv(found, args.all))
    elif args.md:
        print(comparison.markdown(found, told, args.all))
    elif args.html:
        print(write_file(args.html, comparison.html(found, told, args.all)))
    else:
        print(comparison.heading(found))
        print_table(comparison.HEADERS, comparison.table(found, args.all), comparison.LEFT)
        print("\n".join([*comparison.summary(found), *(comparison.weights(found, told) if told else [])]))


def count(name: str, args: argparse.Namespace) -> Account:
    if args.input is None and args.classes is None:
        return load(name)
    from ..accounting import account

    options = {} if args.classes is None else {"classes": args.classes}
    return account(name, input=args.input and parse_input(args.input), **options)


def compare_weights(names: tuple[str, str], args: argparse.Namespace) -> WeightMatch:
    from ..accounting.weight_match import weight_match

    options = {} if args.classes is None else {"classes": args.classes}
    return weight_match(*names, input=args.input and parse_input(args.input), **options)
