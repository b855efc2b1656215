"""`convatlas memory`: memory use in training and inference, and the largest batch that fits."""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..accounting.memory.figures import OPTIMIZERS
from ..errors import one_line
from ..limits import parse_bytes
from . import network
from .output import add_formats, print_report

HELP = "memory that training and inference take; the largest batch"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas memory resnet50 --fit 8GB"
    parser.add_argument("name", metavar="NETWORK", help=network.NAME)
    network.add_options(parser)
    parser.add_argument("--batch", metavar="N", type=int, default=32, help="images at a time (default 32)")
    parser.add_argument(
        "--fit", metavar="SIZE", help="print the largest batch that fits in this much memory: 8GB, 8GiB or 500MB"
    )
    parser.add_argument(
        "--optimizer", choices=OPTIMIZERS, default="sgd", help="sgd and rmsprop with momentum (default sgd)"
    )
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--aux", action="store_true", help="train the auxiliary classifiers too")
    parser.add_argument(
        "--level", choices=("stage", "layer"), default="stage", help="group saved bytes by stage (default) or by layer"
    )
    add_formats(parser)


def run(args: argparse.Namespace) -> None:
    name, fit = network.checked(args.name), None if args.fit is None else parse_bytes(args.fit)
    network.built(name, args)
    how = {"optimizer": args.optimizer, "amp": args.amp, **network.options(args)}
    with busy(f"tracing {name}"):
        from ..accounting.memory.predict import checkpointed, memory
        from ..report.memory import report

        found = memory(name, batch=args.batch, auxiliary=args.aux, **how)
        cut = None if args.aux else checkpointed(name, **how)
    print_report(report(found, cut, fit, args.level), args)


def busy(text: str) -> AbstractContextManager[Any]:
    """A spinner on the terminal during the block."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.text import Text

    return Console(stderr=True).status(Text(one_line(text)))
