"""`convatlas doctor`: whether a run, a checkpoint, weights or data are intact, what is wrong, and what to do."""

from __future__ import annotations

import argparse

from . import checks, source
from .output import add_formats, print_report

HELP = "check a run, a checkpoint, weights or data for damage"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas doctor runs/first"
    parser.description = (
        f"{parser.description} Changes nothing. Exit status: 0 intact, 1 something is wrong, 2 it cannot be checked."
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a run folder, a checkpoint, a weights file, NETWORK@SOURCE, a data folder or KIND:DIR",
    )
    add_formats(parser)


def run(args: argparse.Namespace) -> int:
    checks.path_or_source(args.path)
    from ..doctor import examine
    from ..report.diagnosis import report

    found = examine(args.path, progress=source.bar("reading images"))
    print_report(report(found), args)
    return 0 if found.intact else 1
