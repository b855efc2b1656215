"""`convatlas reconcile`: the totals of other counters, and every difference from our count."""

from __future__ import annotations

import argparse

from . import network
from .output import add_formats, print_report

HELP = "the totals of seven other counters, and why they differ"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas reconcile resnet50"
    parser.add_argument("name", metavar="NETWORK", help=network.NAME)
    network.add_options(parser)
    add_formats(parser)


def run(args: argparse.Namespace) -> None:
    name = network.checked(args.name)
    from ..accounting.counters.reconcile import reconcile
    from ..accounting.resolve import resolve
    from ..report.reconcile import report

    chosen = resolve(name, **network.options(args))
    print_report(report(chosen.name, chosen.input, reconcile(chosen.net, chosen.input)), args)
