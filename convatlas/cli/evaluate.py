"""`convatlas evaluate`: accuracy, loss and confusion of a trained network on a split of a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, one_line
from ..limits import whole_number
from ..protocols import PROTOCOLS, find_protocol
from . import checks, engine, model, source
from .output import add_formats, print_report, say, write_file

if TYPE_CHECKING:
    from ..evaluation.scores import Scores

PICTURES = ("confusion", "reliability", "mistakes", "per_image")
HELP = "score trained networks: top-k accuracy, loss, confusion"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas evaluate runs/first --data cifar-10-batches-py"
    model.add(parser, several=True, help=model.RUN)
    parser.add_argument("--ensemble", action="store_true", help="average the models' probabilities as well")
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
    parser.add_argument("--only", metavar="CLASS", action="append", help="only images of this class (repeatable)")
    parser.add_argument("--confusion", metavar="FILE", help="draw the confusion matrix (.png, .svg or .pdf)")
    parser.add_argument("--reliability", metavar="FILE", help="draw accuracy against confidence (.png, .svg or .pdf)")
    parser.add_argument("--mistakes", metavar="FILE", help="write a page with the worst mistakes (.html)")
    parser.add_argument("--per-image", metavar="FILE", help="write what is predicted for each image (.csv)")
    parser.add_argument("--batch", metavar="N", type=int, default=256, help="batch size (default 256)")
    parser.add_argument("--device", metavar="D", default="auto", help="auto, cpu, cuda, cuda:1 ... (default auto)")
    parser.add_argument(
        "--workers", metavar="N", type=int, help="threads that decode ahead (default: one per core; 0: none)"
    )
    engine.add(parser)
    add_formats(parser)


def parse_top(text: str) -> tuple[int, ...]:
    """ "1,5" -> (1, 5), sorted, without duplicates."""
    numbers = {whole_number(k.strip()) or 0 for k in text.split(",")}
    if 0 in numbers:
        raise UserError(f"--top {text[:40]!r} is not a list of whole numbers of at least 1", "give a list such as 1,5")
    return tuple(sorted(numbers))


def run(args: argparse.Namespace) -> None:
    for name in args.models:
        model.checked(name)
    checks.data_source(args.data)
    checks.device(args.device)
    checks.at_least_one("--batch", args.batch)
    engine.checked(args)
    given = parse_top(args.top) if args.top else ()
    protocol = find_protocol(args.protocol)
    drawing = checks.picture("--confusion", args.confusion) if args.confusion else None
    reliability = checks.picture("--reliability", args.reliability) if args.reliability else None
    if len(set(args.models)) < len(args.models):
        raise UserError("a model is given twice", "give each once")
    asked = [f"--{name.replace('_', '-')}" for name in PICTURES if getattr(args, name)]
    if asked and len(args.models) > 1 and not args.ensemble:
        raise UserError(f"{asked[0]} is of one model or an ensemble", "give one MODEL, or --ensemble")
    import torch

    from ..evaluation.classes import aligned
    from ..evaluation.ensemble import evaluate_several
    from ..evaluation.scores import usual_topk
    from ..evaluation.scoring import evaluate
    from ..machine.device import choose_device
    from ..report import charts, mistakes
    from ..report.scores import report, several
    from ..tables import entry
    from ..tables.published import by_protocol, dataset_of

    device = choose_device(engine.device(args))
    short = [Path(name).name for name in args.models]
    names = short if len(set(short)) == len(short) else args.models
    models = {name: model.running(args, device, it) for name, it in zip(names, args.models)}
    first = next(iter(models.values()))
    top = given or usual_topk(len(first.classes))
    if top[-1] > len(first.classes):
        raise UserError(f"top-{top[-1]} is undefined for {len(first.classes)} classes", "give at most that many")
    data = source.load(args)
    models = {name: engine.on(args, it, data.split(args.split)) for name, it in models.items()}
    first = next(iter(models.values()))
    how = {"split": args.split, "protocol": protocol.name, "batch": args.batch, "device": device}
    found: dict[str, Scores] = {}
    if len(models) == 1:
        scores = evaluate(first, data, **how, workers=args.workers, progress=source.bar("evaluating"))
    else:
        found, scores = evaluate_several(models, data, **how, workers=args.workers, progress=source.bar)
        if args.ensemble:
            found["ensemble"] = scores
    at = scores.images_of(args.only) if args.only else torch.arange(scores.n)
    scores, found = scores.subset(at), {name: it.subset(at) for name, it in found.items()}

    split, _ = aligned(data.split(args.split), first.classes)
    what = f"{first.network} of {one_line(first.source)}" if len(models) == 1 else f"{len(models)} models"
    heading = f"{what} on {one_line(args.data)}, {split.name}, {protocol.name}: {scores.n:,} images"
    written = {}
    if drawing:
        written["confusion matrix"] = charts.confusion(scores.confusion, scores.classes, drawing)
    if reliability:
        written["reliability diagram"] = charts.reliability(scores, reliability)
    if args.mistakes:
        written["page of mistakes"] = write_file(Path(args.mistakes), mistakes.page(scores, split, at, heading))
    if args.per_image:
        written["table of images"] = write_file(Path(args.per_image), mistakes.per_image(scores, split, at).csv())
    record = {"split": split.name, "protocol": protocol.name}
    if found:
        made = several(found, top, heading=heading, record=record)
    else:
        record |= {"model": first.source, "network": first.network}
        dataset = dataset_of(data.name, data.classes)
        known = []
        if dataset and not args.only and checks.is_network(first.network):
            known = by_protocol(entry(first.network), dataset, protocol)
        made = report(scores, top, heading=heading, record=record, published=known)
    print_report(made, args)
    if not (args.json or args.csv or args.md):
        for name, file in written.items():
            say(f"The {name} is in {file}.")
