"""`convatlas evaluate`: accuracy, loss and confusion of a trained network on a split of a data set."""

from __future__ import annotations

import argparse

from ..errors import UserError, one_line
from ..limits import whole_number
from ..protocols import PROTOCOLS, find_protocol
from . import checks, model, source
from .output import add_formats, print_report, say

HELP = "score a trained network: top-k accuracy, loss, confusion"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas evaluate runs/first --data cifar-10-batches-py"
    model.add(parser)
    parser.add_argument(
        "--data", metavar="SOURCE", required=True, help="as for train: digits, cifar10:DIR, a folder ..."
    )
    source.add_val(parser)
    source.add_bad(parser)
    parser.add_argument("--split", choices=("train", "val", "test"), help="which split (default test, else val)")
    parser.add_argument("--top", metavar="K,K", help="which top-k to print (default 1,5)")
    parser.add_argument(
        "--protocol",
        metavar="P",
        default="center",
        help=f"how images are shown (default center): {', '.join(PROTOCOLS)}",
    )
    parser.add_argument("--confusion", metavar="FILE", help="draw the confusion matrix (.png, .svg or .pdf)")
    parser.add_argument("--batch", metavar="N", type=int, default=256, help="batch size (default 256)")
    parser.add_argument("--device", metavar="D", default="auto", help="auto, cpu, cuda, cuda:1 ... (default auto)")
    parser.add_argument(
        "--workers", metavar="N", type=int, help="threads that decode ahead (default: one per core; 0: none)"
    )
    add_formats(parser)


def parse_top(text: str) -> tuple[int, ...]:
    """ "1,5" -> (1, 5), sorted, without duplicates."""
    numbers = {whole_number(k.strip()) or 0 for k in text.split(",")}
    if 0 in numbers:
        raise UserError(f"--top {text[:40]!r} is not a list of whole numbers of at least 1", "give a list such as 1,5")
    return tuple(sorted(numbers))


def run(args: argparse.Namespace) -> None:
    model.checked(args.model)
    checks.data_source(args.data)
    checks.device(args.device)
    checks.at_least_one("--batch", args.batch)
    given = parse_top(args.top) if args.top else ()
    protocol = find_protocol(args.protocol)
    drawing = checks.picture("--confusion", args.confusion) if args.confusion else None
    from ..evaluation.scores import usual_topk
    from ..evaluation.scoring import evaluate
    from ..machine.device import choose_device
    from ..report import charts
    from ..report.scores import report

    device = choose_device(args.device)
    found = model.load(args, device)
    top = given or usual_topk(len(found.classes))
    if top[-1] > len(found.classes):
        raise UserError(f"top-{top[-1]} is undefined for {len(found.classes)} classes", "give at most that many")
    data = source.load(args)
    scores = evaluate(
        found,
        data,
        split=args.split,
        protocol=protocol.name,
        batch=args.batch,
        device=device,
        workers=args.workers,
        progress=source.bar("evaluating"),
    )
    if drawing:
        charts.confusion(scores.confusion, scores.classes, drawing)
    split = data.split(args.split).name
    what = f"{found.network} of {one_line(found.source)} on {one_line(args.data)}"
    made = report(
        scores,
        top,
        heading=f"{what}, {split}, {protocol.name}: {scores.n:,} images",
        record={"model": found.source, "network": found.network, "split": split, "protocol": protocol.name},
    )
    print_report(made, args)
    if drawing and not (args.json or args.csv or args.md):
        say(f"The confusion matrix is in {drawing}.")
