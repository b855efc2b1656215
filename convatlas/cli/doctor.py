"""`convatlas doctor`: whether a run, a checkpoint, weights or data are whole, what is wrong, and what to do."""

from __future__ import annotations

import argparse

from . import source
from .output import print_json

HELP = "check a run, a checkpoint, weights or data, and what to do"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas doctor runs/first"
    parser.description = (
        f"{parser.description} Changes nothing. Exit status: 0 whole, 1 something is wrong, 2 it cannot be examined."
    )
    parser.add_argument("path", metavar="RUN_OR_FILE", help="a run folder, a checkpoint, a file of weights, or data")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from ..doctor import examine

    found = examine(args.path, progress=source.bar("reading images"))
    if args.json:
        print_json(found.to_json())
    else:
        for it in found.findings:
            print(f"{it.level:6}{it.what}" + (f"\n      -> {it.remedy}" if it.remedy else ""))
        print(f"{args.path} is {'whole' if found.whole else 'not whole'} ({found.kind}).")
    return 0 if found.whole else 1
