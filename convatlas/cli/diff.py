"""`convatlas diff`: two networks layer by layer, what each difference costs, and which weights load from A into B."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..accounting.rows import LEVELS
from . import network
from .output import add_formats, print_report, say, write_file

HELP = "how two networks differ, layer by layer, and what it costs"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas diff resnet50 resnet50_v1_5 --weights"
    parser.add_argument("a", metavar="A", help=network.NAME)
    parser.add_argument("b", metavar="B", help="the network to compare it with")
    parser.add_argument("--level", choices=LEVELS, default="layer", help="what a row stands for (default layer)")
    network.add_options(parser)
    parser.add_argument("--weights", action="store_true", help="say which of A's weights load into B")
    parser.add_argument("--all", action="store_true", help="list equal layers too")
    form = add_formats(parser)
    form.add_argument("--html", metavar="FILE", type=Path, help="write a self-contained page")


def run(args: argparse.Namespace) -> None:
    names = network.checked(args.a), network.checked(args.b)
    from ..accounting.diff import diff
    from ..report import comparison

    found = diff(network.count(names[0], args), network.count(names[1], args), args.level)
    match = None
    if args.weights:
        from ..accounting.weight_match import weight_match

        match = weight_match(*names, **network.options(args))
    if args.html:
        say(write_file(args.html, comparison.html(found, match, args.all)))
    else:
        print_report(comparison.report(found, match, args.all), args)
