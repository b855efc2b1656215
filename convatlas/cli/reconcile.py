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
    parser.add_argument(
        "--training", action="store_true", help="in training mode, where some count batch norm otherwise"
    )
    add_formats(parser)


def run(args: argparse.Namespace) -> None:
    name = network.checked(args.name)
    from ..accounting.counters.reconcile import reconcile
    from ..accounting.resolve import resolve
    from ..report.reconcile import report

    network.built(name, args)
    chosen = resolve(name, **network.options(args))
    found = reconcile(chosen.net, chosen.input, training=args.training)
    print_report(report(chosen.name, chosen.input, found, args.training), args)
