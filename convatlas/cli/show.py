"""`convatlas show`: one network beside its paper: file, claims, rows and totals."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..accounting.resolve import is_file
from ..accounting.rows import LEVELS, Account
from ..errors import UserError
from ..limits import parse_macs
from . import network
from .output import add_formats, print_json, print_report, say, write_file

if TYPE_CHECKING:
    from ..accounting.resolve import Given
    from ..engines.latency.profile import Estimate

HELP = "one network: paper, file, claims, and what each layer costs"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas show resnet50 --level block; your own: show mine.py:make --input 3x32x32"
    parser.add_argument("name", metavar="NETWORK", help=network.NAME)
    network.add_options(parser)
    parser.add_argument("--batch", metavar="N", type=int, default=1, help="images at a time (default 1)")
    parser.add_argument("--level", choices=LEVELS, default="layer", help="what a row stands for (default layer)")
    parser.add_argument(
        "--under", metavar="MACS", help="print the largest square image within this many multiply-adds: 1GMAC"
    )
    parser.add_argument(
        "--convention", metavar="TOOL", help="add the total of this counter: fvcore, thop ... (see `reconcile`)"
    )
    parser.add_argument("--epoch", metavar="N", type=int, help="add the cost of training on this many images")
    parser.add_argument(
        "--latency", action="store_true", help="add its time on this machine, as estimated (see `calibrate`)"
    )
    parser.add_argument("--receptive", action="store_true", help="show receptive fields instead of costs")
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="print and draw the receptive fields (.png, .svg, .pdf)"
    )
    form = add_formats(parser)
    form.add_argument("--html", metavar="FILE", type=Path, help="write everything to a self-contained page")


def run(args: argparse.Namespace) -> None:
    name = network.checked(args.name)
    if args.epoch is not None and args.epoch < 1:
        raise UserError(f"--epoch {args.epoch} is not a number of images", "give a whole number of at least 1")
    if args.plot is not None and args.html is not None:
        raise UserError("--plot and --html write two files", "give one of them; the page has the plot as well")
    if args.under is not None:
        show_under(name, args)
        return
    counts = network.count(name, args, args.batch)
    latency = estimates(counts) if args.latency else ()
    if args.plot is not None:
        picture = plot(counts, args)
    if args.html is not None:
        from ..report import html

        say(write_file(args.html, html(counts)))
    else:
        from ..report.account import report

        convention = by_convention(name, args) if args.convention else None
        receptive = args.receptive or args.plot is not None
        made = report(counts, args.level, receptive=receptive, epoch=args.epoch, convention=convention, latency=latency)
        print_report(made, args)
        if args.plot is not None and not (args.json or args.csv or args.md):
            say(picture)


def estimates(counts: Account) -> list[Estimate]:
    """By each profile that holds on this machine, fastest first."""
    from ..engines.latency.estimate import estimate
    from ..engines.latency.profile import here

    return sorted((estimate(counts, profile, counts.batch) for profile in here()), key=lambda found: found.median_s)


def plot(counts: Account, args: argparse.Namespace) -> Path:
    from ..accounting.layer_graph import layer_graph
    from ..report.charts import receptive_field

    return receptive_field(layer_graph(counts, args.level), args.plot)


def by_convention(name: Given, args: argparse.Namespace) -> Any:
    """The total of another counter, for one image."""
    from ..accounting.counters.reconcile import reconcile

    if args.batch != 1:
        raise UserError("--convention counts one image", f"leave out --batch {args.batch}")
    return reconcile(name, tools=[args.convention], **network.options(args))[args.convention]


def show_under(name: Given, args: argparse.Namespace) -> None:
    """Prints the largest square image within a budget, and the cost of the next larger one."""
    from ..accounting.symbolic import largest_input
    from ..report.account import under_lines

    if args.input is not None and isinstance(name, str) and not is_file(name):
        raise UserError("--under finds the image size itself", f"leave out --input {args.input}")
    if args.csv or args.md or args.html:
        raise UserError("--under prints no table", "leave out --csv, --md and --html")
    network.built(name, args)
    budget = parse_macs(args.under)
    found = largest_input(name, budget, batch=args.batch, **({"classes": None} | network.options(args)))
    shown = name if isinstance(name, str) else args.name
    if args.json:
        print_json({"name": shown, "under": budget, **vars(found)})
    else:
        say(*under_lines(shown, args.under, args.batch, found))
