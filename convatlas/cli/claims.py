"""`convatlas claims`: the ledger, each printed figure beside the count."""

from __future__ import annotations

import argparse

from ..errors import UserError
from ..report.claims import report
from ..tables import claims, entry, index, load
from .output import add_formats, print_report

HELP = "the figures that papers print, beside the counts"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas claims resnet50"
    parser.add_argument("name", nargs="?", metavar="NETWORK", help="one network (default: all)")
    parser.add_argument("--gaps", action="store_true", help="only the figures that do not hold")
    parser.add_argument(
        "--start",
        action="store_true",
        help="also what NETWORK starts from, measured on its first weights; batch norm's epsilon and momentum",
    )
    add_formats(parser)


def run(args: argparse.Namespace) -> None:
    if args.start and not args.name:
        raise UserError("--start builds a network", "give its name: convatlas claims NETWORK --start")
    names = [entry(args.name)["name"]] if args.name else list(index())
    chosen = {name: [claim for claim in claims(name) if claim.gap or not args.gaps] for name in names}
    made = [(load(name), of) for name, of in chosen.items() if of]
    found = None
    if args.start:
        from ..accounting.start import start
        from ..catalogue import find

        found = find(names[0]).file, start(find(names[0]))
    print_report(report(made, found), args)
