"""`convatlas transfer`: a trained network and your images in, a run folder with a classifier of them out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import checks, model, source
from .output import add_formats, command, parse_input, print_report

HELP = "make a classifier of your images from a trained network"
STATUS = """example: convatlas transfer efficientnet_lite0@pypi --data photos -o runs/photos
exit status: 0 done; 2 an error that you can fix, in one line; 130 stopped by Ctrl-C: --resume goes on"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = STATUS
    model.add(parser)
    images = parser.add_argument_group("images")
    images.add_argument(
        "--data", metavar="SOURCE", required=True, help="as for train: a folder with a sub-folder per class, digits ..."
    )
    source.add_bad(images)
    images.add_argument("--input", metavar="CxHxW", help="image size (default: that of the weights)")
    way = parser.add_argument_group("transfer")
    way.add_argument(
        "--mode",
        choices=("features",),
        default="features",
        help="features: logistic regression on what the network's classifier reads",
    )
    way.add_argument("--balance", action="store_true", help="give each class the same weight, however many images")
    way.add_argument("--seed", metavar="N", type=int, default=0, help="seed of the folds, and of training (default 0)")
    folder = parser.add_argument_group("run folder")
    folder.add_argument("-o", "--out", metavar="RUN", help="the run folder (default runs/NETWORK-DATA-transfer)")
    folder.add_argument("--resume", action="store_true", help="go on in the folder, with the same options")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", metavar="D", default="auto", help="auto (a GPU if there is one), cpu, cuda ...")
    machine.add_argument("--workers", metavar="N", type=int, help="threads that decode ahead (default: one per core)")
    add_formats(parser)


def run(args: argparse.Namespace) -> None:
    model.checked(args.model)
    checks.data_source(args.data)
    checks.device(args.device)
    source.max_pixels(args)
    input = parse_input(args.input) if args.input else None
    from ..machine.device import choose_device
    from ..report.progress import progress
    from ..report.transfer import report
    from ..train.setup import no_run_in
    from ..tuning.transfer import transfer

    if args.out and not args.resume:
        no_run_in(Path(args.out))
    device = choose_device(args.device)
    found = model.load(args, device)
    args.val = 0.0  # the probe is chosen by cross-validation: all training images are learnt from
    data = source.load(args)
    out = Path(args.out or f"runs/{found.network}-{data.name}-transfer")
    with progress(sys.stderr) as on_event:
        made = transfer(
            found,
            data,
            out=out,
            mode=args.mode,
            balance=args.balance,
            input=input,
            seed=args.seed,
            device=device,
            workers=args.workers,
            resume=args.resume,
            bar=source.bar,
            on_event=on_event,
        )
    print_report(report(made, command(["convatlas", "predict", str(out), "IMAGES"])), args)
