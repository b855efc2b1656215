"""`convatlas draw`: a network as SVG, blocks and branches."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..accounting.rows import LEVELS
from ..errors import UserError
from . import network
from .output import write_file

HELP = "draw a network: its blocks and branches, costs and shapes"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas draw googlenet -o googlenet.svg"
    parser.add_argument("name", metavar="NAME", help=network.NAME)
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, help="the SVG file (default NAME.svg)")
    parser.add_argument("--level", choices=LEVELS, default="block", help="what a box stands for (default block)")
    network.add_options(parser)


def run(args: argparse.Namespace) -> None:
    name = network.checked(args.name)
    out = args.out or Path(f"{Path(name).stem}.svg")
    if out.suffix.lower() != ".svg":
        raise UserError(f"{out} is not an SVG file", "end its name in .svg")
    from ..accounting import account
    from ..report import svg

    counts = account(name, **network.options(args))
    print(write_file(out, svg(counts, args.level)))
