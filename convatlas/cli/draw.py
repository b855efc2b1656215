"""`convatlas draw`: a picture of a network, its blocks and branches."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..accounting.rows import LEVELS
from ..report.layout import DIRECTIONS
from . import checks, network
from .output import say

HELP = "draw a network: its blocks and branches, costs and shapes"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas draw googlenet -o googlenet.svg"
    parser.add_argument("name", metavar="NAME", help=network.NAME)
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, help="the .svg, .png or .pdf file (default NAME.svg)")
    parser.add_argument("--level", choices=LEVELS, default="block", help="what a box stands for (default block)")
    parser.add_argument("--direction", choices=DIRECTIONS, default="down", help="down (default), or right for a slide")
    parser.add_argument("--full", action="store_true", help="draw every block of a run of equal ones")
    network.add_options(parser)


def run(args: argparse.Namespace) -> None:
    name = network.checked(args.name)
    out = checks.picture("--out", args.out or Path(f"{Path(name if isinstance(name, str) else args.name).stem}.svg"))
    from ..accounting import account
    from ..report.picture import draw

    network.built(name, args)
    counts = network.named(account(name, **network.options(args)), args)
    say(draw(counts, out, args.level, args.direction, full=args.full))
