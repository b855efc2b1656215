"""`convatlas draw`: a network as SVG, blocks and branches."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..accounting.rows import LEVELS
from ..errors import UserError
from ..tables import entry
from .output import parse_input, write_file

HELP = "draw a network: its blocks and branches, costs and shapes"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas draw googlenet -o googlenet.svg"
    parser.add_argument("name", metavar="NAME", help="a network, as `list` or its paper spells it")
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, help="the SVG file (default NAME.svg)")
    parser.add_argument("--level", choices=LEVELS, default="block", help="what a box stands for (default block)")
    parser.add_argument("--input", metavar="CxHxW", help="image size (default: the paper's)")
    parser.add_argument("--classes", metavar="N", type=int, help="number of classes (default: the paper's)")


def run(args: argparse.Namespace) -> None:
    name = entry(args.name)["name"]
    if args.out and args.out.suffix.lower() != ".svg":
        raise UserError(f"{args.out} is not an SVG file", "end its name in .svg")
    from ..accounting import account
    from ..report import svg

    options = {} if args.classes is None else {"classes": args.classes}
    counts = account(name, input=args.input and parse_input(args.input), **options)
    print(write_file(args.out or Path(f"{name}.svg"), svg(counts, args.level)))
