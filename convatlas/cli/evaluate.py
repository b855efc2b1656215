"""`convatlas evaluate`: how many images of a split a trained network gets right, and what it takes the others for."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError
from . import checks, source
from .output import add_formats, print_report

HELP = "score a trained network: top-k accuracy, loss, confusion"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas evaluate runs/first --data cifar-10-batches-py"
    parser.add_argument("folder", metavar="RUN", help="the folder that `convatlas train` or `demo` wrote")
    parser.add_argument(
        "--data", metavar="SOURCE", required=True, help="as for train: digits, cifar10:DIR, a folder ..."
    )
    source.add_val(parser)
    source.add_bad(parser)
    parser.add_argument("--split", choices=("train", "val", "test"), help="which images (default test, else val)")
    parser.add_argument("--top", metavar="K,K", help="which top-k to print (default 1,5)")
    parser.add_argument("--which", choices=("best", "last"), help="which checkpoint (default best, else last)")
    parser.add_argument(
        "--views",
        metavar="N",
        type=int,
        default=1,
        help="views of each image whose logits are averaged: 1, 2 (its mirror image too) or 6 (moved by a pixel too)",
    )
    parser.add_argument("--confusion", metavar="FILE.png", help="draw the confusion matrix")
    parser.add_argument("--batch", metavar="N", type=int, default=256, help="images at a time (default 256)")
    parser.add_argument("--device", metavar="D", default="auto", help="auto, cpu, cuda, cuda:1 ... (default auto)")
    parser.add_argument(
        "--workers", metavar="N", type=int, help="threads that read and decode ahead (default: the cores; 0: none)"
    )
    add_formats(parser)


def counts(text: str) -> tuple[int, ...]:
    """ "1,5" as (1, 5), in order, each once."""
    if not all(k.strip().isdigit() and int(k) > 0 for k in text.split(",")):
        raise UserError(f"--top {text!r} is not a list of whole numbers from 1", "give one such as 1,5")
    return tuple(sorted({int(k) for k in text.split(",")}))


def picture(text: str) -> Path:
    """The path of a PNG that can be written: known before the evaluation, not after it."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise UserError(f"--confusion {path} is no PNG", "give a name that ends in .png")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to draw {path.name} in", "make it first")
    return path


def run(args: argparse.Namespace) -> None:
    checks.run_folder(args.folder)
    checks.data_source(args.data)
    checks.device(args.device)
    from ..evaluation.scores import usual_topk
    from ..evaluation.scoring import evaluate
    from ..report.scores import report
    from ..runs.folder import open_run
    from ..train.fit import choose_device

    trained = open_run(args.folder)
    top = counts(args.top) if args.top else usual_topk(len(trained.classes))
    if top[-1] > len(trained.classes):
        raise UserError(f"top-{top[-1]} means nothing with {len(trained.classes)} classes", "give at most that many")
    drawing = picture(args.confusion) if args.confusion else None
    data = source.load(args)
    scores = evaluate(
        trained,
        data,
        split=args.split,
        which=args.which,
        views=args.views,
        batch=args.batch,
        device=choose_device(args.device),
        workers=args.workers,
        progress=source.bar("evaluating"),
    )
    if drawing:
        from ..report import charts

        charts.confusion(scores.confusion, scores.classes, drawing)
    which, split = trained.checkpoint(args.which).stem, data.split(args.split).name
    checkpoint = f"{trained.network} of {args.folder} ({which} checkpoint)"
    views = f", {args.views} views of each" if args.views > 1 else ""
    made = report(
        scores,
        top,
        heading=f"{checkpoint} on {args.data}, {split}: {scores.n:,} images{views}",
        record={"run": str(args.folder), "checkpoint": which, "split": split, "views": args.views},
    )
    print_report(made, args)
    if drawing and not (args.json or args.csv or args.md):
        print(f"The confusion matrix is drawn in {drawing}.")
