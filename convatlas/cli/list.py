"""`convatlas list`: every network of the atlas with its size, cost, accuracy and file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..limits import QUANTITIES, parse_limit
from ..report import listing
from ..tables.published import DATASETS
from ..tables.search import search
from . import checks
from .output import add_formats, print_report, say

if TYPE_CHECKING:
    from ..engines.latency.profile import Estimate

HELP = "the networks: size, cost, published accuracy; or your runs"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas list --limit 'params<=5M' --sort top1"
    parser.add_argument(
        "pattern",
        nargs="?",
        metavar="PATTERN",
        help="part of a name, or a pattern such as 'resnet*'; or a folder, whose runs are listed",
    )
    parser.add_argument("--family", metavar="F", help="only this family, such as vgg")
    parser.add_argument(
        "--limit",
        metavar="LIMIT",
        action="append",
        default=[],
        help=f"only networks within this limit: 'params<=5M', 'top1>75' (repeatable); on {', '.join(QUANTITIES)}",
    )
    parser.add_argument(
        "--sort", metavar="KEY", help="by one of these quantities: lowest first, accuracies highest first"
    )
    parser.add_argument("--reverse", action="store_true", help="reverse the order")
    parser.add_argument(
        "--dataset",
        metavar="D",
        default="imagenet",
        help=f"list published accuracies on: {', '.join(DATASETS)} (default imagenet)",
    )
    parser.add_argument("--with-weights", action="store_true", help="only networks of which weights are published")
    parser.add_argument("--licence", metavar="L", help="only with weights under this licence, such as Apache-2.0")
    parser.add_argument(
        "--curves", metavar="FILE", help="of a folder: draw its runs' errors by epoch (.png, .svg, .pdf)"
    )
    parser.add_argument("--engine", metavar="E", help="latencies on this engine (default: the fastest)")
    parser.add_argument("--precision", metavar="P", default="fp32", help="latencies in fp32, bf16, int8 (default fp32)")
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="latencies on so many threads (default 1)")
    add_formats(parser)


def run(args: argparse.Namespace) -> None:
    if args.pattern and Path(args.pattern).is_dir():
        return list_runs(args)
    if args.curves:
        raise UserError("--curves draws the runs of a folder", "give the folder: convatlas list runs --curves FILE")
    limits = [parse_limit(limit) for limit in args.limit]
    latency = estimates(args) if "latency" in (args.sort, *(limit.quantity for limit in limits)) else None
    found = search(
        args.pattern,
        family=args.family,
        limits=limits,
        dataset=args.dataset,
        sort=args.sort,
        reverse=args.reverse,
        latency=None if latency is None else {name: found.median_s for name, found in latency.items()},
    )
    if args.with_weights or args.licence:
        from ..weights.published import published

        rows = published().values()
        known = {row.network for row in rows if args.licence in (None, row.licence)}
        if not known:
            raise UserError(
                f"no weights are published under {args.licence!r}",
                f"give {', '.join(sorted({r.licence for r in rows}))}",
            )
        found = [it for it in found if it.entry["name"] in known]
    bounds = [float(limit.value) for limit in limits if limit.quantity == "latency"]
    return print_report(listing.report(found, args.dataset, latency, bounds), args)


def list_runs(args: argparse.Namespace) -> None:
    drawing = checks.picture("--curves", args.curves) if args.curves else None
    from ..report import runs
    from ..runs.curves import draw_together
    from ..runs.folder import runs_below

    folder = Path(args.pattern)
    found = {str(it.folder.relative_to(folder)): it for it in runs_below(folder)}
    if drawing:
        draw_together(found, drawing)
    print_report(runs.report(found), args)
    if drawing and not (args.json or args.csv or args.md):
        say(f"The curves are in {drawing}.")


def estimates(args: argparse.Namespace) -> dict[str, Estimate]:
    """Of one image in every network. Raises UserError where this machine is not calibrated for it."""
    from ..engines.latency.estimate import chosen, of_atlas

    checks.at_least_one("--threads", args.threads)
    return of_atlas(chosen(args.engine, args.precision, args.threads))
