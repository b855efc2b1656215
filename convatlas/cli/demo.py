"""`convatlas demo`: the whole workflow in a minute or two: train, evaluate, predict, and plots to look at."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from time import monotonic

from . import checks
from .output import add_formats, print_report, say

HELP = "train LeNet-5 on real digits, evaluate, predict, draw"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas demo --out runs/digits"
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="a new folder (default runs/demo, or runs/demo-2 ... if it exists)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of weights and image order (default 0)")
    parser.add_argument("--device", metavar="D", default="auto", help="auto, cpu, cuda, cuda:1 ... (default auto)")
    add_formats(parser)


def run(args: argparse.Namespace) -> int:
    checks.device(args.device)
    import torch

    from ..demo import demo
    from ..report.demo import report
    from ..report.progress import progress
    from ..train.divergence import Diverged
    from ..train.fit import Stopped, choose_device

    began = monotonic()
    talk = sys.stderr if args.json or args.csv or args.md else sys.stdout
    device = choose_device(args.device)
    torch.set_num_threads(1)  # LeNet-5 is so small that threads would mostly wait for each other
    try:
        with progress(talk) as on_event:
            done = demo(
                args.out,
                args.seed,
                device=device,
                on_event=on_event,
                tell=lambda text: on_event({"kind": "note", "text": text}),
            )
    except Stopped as stop:
        say(f"convatlas: {stop}; for the complete demo, run `convatlas demo` again", file=sys.stderr)
        return 128 + signal.Signals(stop.signum)
    except Diverged as error:
        say(f"convatlas: {error}", file=sys.stderr)
        return 1
    shown = list(zip(done.indices, done.predictions, strict=True))
    print_report(report(done.run.folder, done.scores, shown, monotonic() - began), args)
    return 0
