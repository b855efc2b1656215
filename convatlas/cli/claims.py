"""`convatlas claims`: the ledger, each printed figure beside what we count."""

from __future__ import annotations

import argparse

from ..accounting.claims import holds
from ..report.columns import CLAIMS, claim_cells
from ..report.forms import claim_record
from ..tables import claims, entry, index, load
from .output import print_json, print_table

HELP = "the figures that papers and lectures print, beside what is counted"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NETWORK", help="one network (default: all)")
    parser.add_argument("--gaps", action="store_true", help="only the figures that do not hold")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> None:
    names = [entry(args.name)["name"]] if args.name else list(index())
    checked = [(name, claim, counts) for name in names for counts in [load(name)] for claim in claims(name)]
    if args.gaps:
        checked = [row for row in checked if row[1].gap]
    if args.json:
        print_json({"claims": [claim_record(name, claim, counts) for name, claim, counts in checked]})
        return
    print_table(
        ("network", *CLAIMS),
        ((name, *claim_cells(claim, counts)) for name, claim, counts in checked),
        left=6,
    )
    verdicts = [holds(claim, counts) for _, claim, counts in checked]
    print(
        f"{len(checked)} figures: {verdicts.count(True)} hold, {verdicts.count(False)} do not and say why; "
        f"{verdicts.count(None)} are published results, which counting cannot check."
    )
