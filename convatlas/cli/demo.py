"""`convatlas demo`: the whole way once, in a minute or two: train, evaluate, predict, and pictures to look at."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from . import checks
from .evaluate import print_scores
from .output import print_json, print_table

if TYPE_CHECKING:
    from ..demo import Demo

HELP = "train LeNet-5 on real digits, evaluate, predict, draw"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas demo --out runs/digits"
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="a new folder (default runs/demo, or runs/demo-2 ... where it exists)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of weights and order (default 0)")
    parser.add_argument("--device", metavar="D", default="auto", help="auto, cpu, cuda, cuda:1 ... (default auto)")
    parser.add_argument("--json", action="store_true", help="print JSON; what is being done goes to stderr")


def run(args: argparse.Namespace) -> int:
    checks.device(args.device)
    import torch

    from ..demo import demo
    from ..train.fit import Diverged, Stopped, choose_device
    from ..train.progress import progress

    began, talk = monotonic(), sys.stderr if args.json else sys.stdout
    device = choose_device(args.device)
    torch.set_num_threads(1)  # LeNet-5 is so small that threads would wait for each other more than they work
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
        print(f"convatlas: {stop}; to see the whole, run `convatlas demo` again", file=sys.stderr)
        return 128 + signal.Signals(stop.signum)
    except Diverged as error:
        print(f"convatlas: {error}", file=sys.stderr)
        return 1
    if args.json:
        print_json(
            {
                "run": str(done.run.folder),
                "checkpoint": "last",
                "scores": done.scores.to_json(),
                "predictions": [p.to_json() for p in done.predictions],
            }
        )
    else:
        print_demo(done, monotonic() - began)
    return 0


def print_demo(done: Demo, seconds: float) -> None:
    out, scores = done.run.folder, done.scores
    print(f"\n{scores.hits(1)} of the {scores.n} digits that it had not seen are right.")
    print_scores(scores, (1, 5))
    print("\nFrom the image files (the worst mistakes among them, the others evenly spaced):")
    print_table(
        ("file", "taken for", "or", "or", ""),
        (
            (
                str(Path(p.file).relative_to(out)),
                *(f"{name} ({probability:.1%})" for name, probability in p.ranked),
                "right" if scores.ranks[i] == 0 else "wrong",
            )
            for i, p in zip(done.indices, done.predictions, strict=True)
        ),
        left=5,
    )
    print(f"\nDone in {seconds:.0f} s. Look at, in {out}:")
    print("  curves.png       how loss and accuracy went, epoch by epoch")
    print("  predictions.png  held-out digits, and what they were taken for")
    print("  confusion.png    which digits are taken for which")
    print("  images/          those digits as image files")
    print("  run.json, log.jsonl, *.safetensors: what was trained, how it went, and the weights")
    print("Then try:")
    print(f"  convatlas evaluate {out} --data digits --which last")
    print(f"  convatlas predict {out} {out}/images --which last")
    print("  convatlas show lenet5")
