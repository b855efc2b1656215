"""`convatlas transfer`: a trained network and your images in, a run folder with a classifier of them out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..limits import parse_seconds
from . import checks, model, source
from .output import add_formats, command, parse_input, print_report, say

if TYPE_CHECKING:
    from ..train.events import Event, OnEvent

HELP = "make a classifier of your images from a trained network"
STATUS = """example: convatlas transfer efficientnet_lite0@pypi --data photos -o runs/photos
exit status: 0 done; 1 the loss is not finite; 2 an error that you can fix, in one line; 130 stopped by Ctrl-C: \
--resume goes on"""


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
        choices=("auto", "features", "head", "finetune", "gradual"),
        default="auto",
        help="features: logistic regression on what the network's classifier reads; from it on, head trains the "
        "classifier, finetune all, gradual one part after another; auto (default): finetune where cross-validation "
        "says that it pays, else features",
    )
    way.add_argument(
        "--budget", metavar="TIME", default="2m", help="the most that auto's cross-validation may take (default 2m)"
    )
    way.add_argument("--epochs", metavar="N", type=int, help="number of epochs of training")
    way.add_argument("--batch", metavar="N", type=int, help="batch size of training; the rate scales linearly")
    way.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="change a setting of training (repeatable): lr=0.001, augment=flip, tuning.frozen=stem,stage1, "
        "tuning.rates=stage7:0.5, tuning.norm=trained",
    )
    way.add_argument("--balance", action="store_true", help="give each class the same weight, however many images")
    way.add_argument("--seed", metavar="N", type=int, default=0, help="seed of the folds, and of training (default 0)")
    folder = parser.add_argument_group("run folder")
    folder.add_argument("-o", "--out", metavar="RUN", help="the run folder (default runs/NETWORK-DATA-transfer)")
    folder.add_argument("--resume", action="store_true", help="go on in the folder, with the same options")
    folder.add_argument(
        "--embeddings", metavar="FILE", help="write the features of all images, with labels and names, as an .npz file"
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", metavar="D", default="auto", help="auto (a GPU if there is one), cpu, cuda ...")
    machine.add_argument("--workers", metavar="N", type=int, help="threads that decode ahead (default: one per core)")
    add_formats(parser)


def run(args: argparse.Namespace) -> int:
    model.checked(args.model)
    checks.data_source(args.data)
    checks.device(args.device)
    source.max_pixels(args)
    input = parse_input(args.input) if args.input else None
    budget_s = parse_seconds(args.budget)
    from ..machine.device import choose_device
    from ..report.transfer import report
    from ..train.divergence import Diverged
    from ..train.fit import Stopped
    from ..train.setup import no_run_in
    from ..tuning.embeddings import embeddings_file, write_embeddings
    from ..tuning.transfer import transfer

    if args.out and not args.resume:
        no_run_in(Path(args.out))
    if args.embeddings:
        embeddings_file(args.embeddings)
    device = choose_device(args.device)
    found = model.load(args, device)
    args.val = 0.0  # the probe is chosen by cross-validation: all training images are learnt from
    data = source.load(args)
    out = Path(args.out or f"runs/{found.network}-{data.name}-transfer")
    try:
        with shown() as on_event:
            made = transfer(
                found,
                data,
                out=out,
                mode=args.mode,
                changes=args.set,
                epochs=args.epochs,
                batch=args.batch,
                balance=args.balance,
                budget_s=budget_s,
                input=input,
                seed=args.seed,
                device=device,
                workers=args.workers,
                resume=args.resume,
                bar=source.bar,
                on_event=on_event,
            )
        if args.embeddings:
            write_embeddings(made.probed, args.embeddings)
    except Stopped as stop:
        say(f"convatlas: {stop}; the same command with --resume goes on", file=sys.stderr)
        return 128 + stop.signum
    except Diverged as error:
        say(f"convatlas: {error}", file=sys.stderr)
        return 1
    print_report(report(made, command(["convatlas", "predict", str(out), "IMAGES"])), args)
    return 0


@contextmanager
def shown() -> Iterator[OnEvent]:
    """An `on_event` that prints notes as lines, and draws a training while it runs: other bars come around it."""
    from ..report.progress import progress

    with ExitStack() as drawn:
        training: list[OnEvent] = []

        def on_event(event: Event) -> None:
            if event["kind"] == "note" and not training:
                say(event["text"], file=sys.stderr)
                return
            if not training:
                training.append(drawn.enter_context(progress(sys.stderr)))
            training[0](event)
            if event["kind"] == "end":
                training.clear()
                drawn.close()

        yield on_event
