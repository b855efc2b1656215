"""`convatlas calibrate`: learns how fast an engine is on this machine, so that latencies can be estimated."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import UserError
from . import checks
from .output import add_formats, print_report

HELP = "learn this machine's speed, so that latencies can be estimated"
LONGEST_S = 3600.0


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas calibrate --engine openvino --precision int8"
    parser.description = (
        f"{parser.description} Small random networks are timed for a minute, on one thread in processor time, and what "
        "is learnt of them is kept in the cache."
    )
    parser.add_argument(
        "--engine", metavar="E", default="onnxruntime", help="onnxruntime or openvino (default onnxruntime)"
    )
    parser.add_argument("--precision", metavar="P", default="fp32", help="fp32, bf16 or int8 (default fp32)")
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="threads that compute (default 1)")
    parser.add_argument("--seconds", metavar="S", type=float, default=60.0, help="how long it may take (default 60)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of the random networks (default 0)")
    add_formats(parser)


def run(args: argparse.Namespace) -> None:
    checks.at_least_one("--threads", args.threads)
    if not 1 <= args.seconds <= LONGEST_S:
        raise UserError(f"--seconds {args.seconds:g} is out of range", f"give 1 to {LONGEST_S:g}")
    if not 0 <= args.seed < 2**63:
        raise UserError(f"--seed {args.seed} is out of range", "give a whole number of at least 0")
    from ..engines.latency.calibrate import calibrate
    from ..engines.latency.profile import save
    from ..report.latency import calibrated

    with bar(f"calibrating {args.engine}") as tell:
        made = calibrate(args.engine, args.precision, args.threads, seconds=args.seconds, seed=args.seed, tell=tell)
    print_report(calibrated(made, save(made)), args)


@contextmanager
def bar(what: str) -> Iterator[Callable[[float, int], None]]:
    """A progress bar on a terminal; what it yields is called with the share that is over."""
    if not sys.stderr.isatty():
        yield lambda share, chains: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=1.0)
        yield lambda share, chains: shown.update(task, completed=share)
