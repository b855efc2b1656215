"""`convatlas predict`: the classes that a trained network predicts for image files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from . import checks, engine, model, source
from .output import add_formats, print_report, say

if TYPE_CHECKING:
    from ..evaluation.predictions import Prediction

HELP = "rank the classes of images with a trained network"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas predict runs/photos photos/ants --top 2"
    parser.description = (
        f"{parser.description} Exit status: 0 all files were predicted, 1 some could not be read, 2 none could."
    )
    model.add(parser, help=model.RUN)
    parser.add_argument("paths", metavar="IMAGE", nargs="+", help="image files, and folders to search for images")
    source.add_max(parser)
    parser.add_argument("--top", metavar="K", type=int, default=5, help="classes to print for each image (default 5)")
    parser.add_argument("--batch", metavar="N", type=int, default=32, help="batch size (default 32)")
    parser.add_argument("--device", metavar="D", default="auto", help="auto, cpu, cuda, cuda:1 ... (default auto)")
    engine.add(parser)
    add_formats(parser)


def run(args: argparse.Namespace) -> int:
    model.checked(args.model)
    checks.device(args.device)
    checks.at_least_one("--top", args.top)
    checks.at_least_one("--batch", args.batch)
    engine.checked(args)
    max_pixels = source.max_pixels(args)
    if not any(Path(path).exists() for path in args.paths):
        raise UserError(f"there is no {args.paths[0]}", "give image files, or folders with images")
    from ..evaluation.predictions import image_files, predict_files
    from ..machine.device import choose_device
    from ..report.predictions import json_lines, lines, report

    device = choose_device(engine.device(args))
    predictions = Reported(
        predict_files(
            engine.on(args, model.running(args, device)),
            image_files(args.paths),
            top=args.top,
            batch=args.batch,
            device=device,
            max_pixels=max_pixels,
        )
    )
    if args.csv or args.md:
        print_report(report(predictions), args)
    else:
        for line in (json_lines if args.json else lines)(predictions):
            print(line, flush=True)
    return 0 if not predictions.bad else 1 if predictions.good else 2


class Reported:
    """Passes predictions through and counts them; files that could not be read are reported on stderr."""

    def __init__(self, predictions: Iterable[Prediction]):
        self.predictions, self.good, self.bad = predictions, 0, 0

    def __iter__(self) -> Iterator[Prediction]:
        for prediction in self.predictions:
            if prediction.error is None:
                self.good += 1
            else:
                self.bad += 1
                say(f"convatlas: {prediction.error}", file=sys.stderr)
            yield prediction
