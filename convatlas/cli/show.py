"""`convatlas show`: one network beside its paper: its file, its claims, its rows and totals."""

from __future__ import annotations

import argparse
import re
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from .. import report
from ..accounting.claims import holds
from ..accounting.rows import LEVELS, Account
from ..catalogue import Claim
from ..errors import UserError
from ..report.columns import CLAIMS, COSTS, FIELDS_NOTE, RECEPTIVE, claim_cells, input_row
from ..report.forms import heading, summary
from ..tables import claims, entry, load
from .output import parse_input, print_json, print_table, write_file

HELP = "show one network: paper, file, claims, and what each layer costs"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a network, as `list` or its paper spells it")
    parser.add_argument("--input", metavar="CxHxW", help="image size (default: the paper's)")
    parser.add_argument("--classes", metavar="N", type=int, help="number of classes (default: the paper's)")
    parser.add_argument("--batch", metavar="N", type=int, default=1, help="images at a time (default 1)")
    parser.add_argument("--level", choices=LEVELS, default="layer", help="how fine the rows are (default layer)")
    parser.add_argument(
        "--under", metavar="MACS", help="say the largest square image that takes at most so many multiply-adds: 1GMAC"
    )
    parser.add_argument(
        "--convention", metavar="TOOL", help="add what this counter makes of it: fvcore, thop ... (see `reconcile`)"
    )
    parser.add_argument("--epoch", metavar="N", type=int, help="add what training on so many images costs")
    parser.add_argument("--receptive", action="store_true", help="show receptive fields in place of costs")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the receptive fields (.png or .svg)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print the rows as CSV")
    form.add_argument("--md", action="store_true", help="print Markdown")
    form.add_argument("--html", metavar="FILE", type=Path, help="write one page with all of it, to be opened from disk")


def run(args: argparse.Namespace) -> None:
    record = entry(args.name)
    if args.under is not None:
        show_under(record["name"], args)
        return
    stock = args.input is None and args.classes is None and args.batch == 1
    counts = load(record["name"]) if stock else recount(record["name"], args)
    if args.epoch is not None and args.epoch < 1:
        raise UserError(f"--epoch {args.epoch} is no number of images", "give a whole number of at least 1")
    if args.plot is not None:
        print(plot(counts, args))
        return
    if args.html is not None:
        print(write_file(args.html, report.html(counts)))
        return
    columns = RECEPTIVE if args.receptive else COSTS
    told = by_convention(record["name"], args) if args.convention else None
    if args.csv:
        print(report.csv(counts, args.level, columns))
    elif args.json:
        print_json(report.record(counts, args.level) | ({"convention": told._asdict()} if told else {}))
    elif args.md:
        print(report.markdown(counts, args.level, columns))
    else:
        print("\n".join(heading(counts)))
        if stock:
            print_claims(claims(record["name"]), counts)
        rows = (columns.cells(row, counts, False) for row in (input_row(counts), *counts.table(args.level)))
        print_table(columns.headers, rows, columns.left)
        if args.receptive:
            print(FIELDS_NOTE)
            return
        print("\n".join(summary(counts)))
    if args.json or args.csv:
        return
    if args.epoch:
        macs = counts.totals.training_macs // counts.batch * args.epoch
        print(f"  training       {macs:,} in an epoch of {args.epoch:,} images")
    if told:
        print(f"  convention     {told.total:,} {told.unit}, as {told.tool} counts (`reconcile` says why)")


def plot(counts: Account, args: argparse.Namespace) -> Path:
    from ..accounting.layer_graph import layer_graph
    from ..report.charts import receptive_field

    if args.json or args.csv or args.md or args.html:
        raise UserError("--plot writes a picture", "leave --json, --csv, --md and --html out")
    return receptive_field(layer_graph(counts, args.level), args.plot)


def recount(name: str, args: argparse.Namespace) -> Account:
    from ..accounting import account

    options = {} if args.classes is None else {"classes": args.classes}
    return account(name, input=args.input and parse_input(args.input), batch=args.batch, **options)


class Told(NamedTuple):
    tool: str
    unit: str
    total: int


def by_convention(name: str, args: argparse.Namespace) -> Told:
    """What another counter says of one image."""
    from ..accounting.counters.reconcile import reconcile

    if args.batch != 1:
        raise UserError("a convention counts one image", f"leave --batch {args.batch} out")
    options = {} if args.classes is None else {"classes": args.classes}
    found = reconcile(name, args.input and parse_input(args.input), [args.convention], **options)[args.convention]
    return Told(found.tool, found.unit, found.total)


def show_under(name: str, args: argparse.Namespace) -> None:
    """The largest square image within a budget, and what the next larger one takes."""
    from ..accounting.symbolic import largest_input

    if args.input is not None:
        raise UserError("--under finds the size of the image itself", f"leave --input {args.input} out")
    if args.csv or args.md:
        raise UserError("--under prints no table", "leave --csv and --md out")
    fit = largest_input(name, parse_macs(args.under), batch=args.batch, classes=args.classes)
    if args.json:
        print_json({"name": name, "under": parse_macs(args.under), **vars(fit)})
        return
    images = "" if args.batch == 1 else f", {args.batch} images at a time"
    print(f"{name} under {args.under}{images}:")
    print(f"  {fit.side}x{fit.side} pixels take {fit.macs:,} multiply-adds")
    print(f"  {fit.next_side}x{fit.next_side} pixels would take {fit.next_macs:,}")


def parse_macs(text: str) -> int:
    """ "1GMAC", "569M", "300_000_000" -> multiply-adds."""
    found = re.fullmatch(r"([\d_,]*\d(?:\.\d+)?) ?([KMGT]?)(?:MACs?)?", text, re.IGNORECASE)
    if not found:
        raise UserError(f"{text!r} is no number of multiply-adds", "write one such as 1GMAC, 569M or 300000000")
    return int(Decimal(re.sub("[_,]", "", found[1])) * 1000 ** " KMGT".index(found[2].upper() or " "))


def print_claims(made: list[Claim], counts: Account) -> None:
    """The claims about the whole network; those about single layers in a line (`convatlas claims` has them all)."""
    whole = [c for c in made if " " not in c.what]
    if whole:
        print_table(CLAIMS, (claim_cells(c, counts) for c in whole), left=5)
    layers = [c for c in made if " " in c.what]
    if layers:
        held = sum(bool(holds(c, counts)) for c in layers)
        print(f"{held} of {len(layers)} figures printed of single layers hold (`convatlas claims {counts.name}`).")
