"""`convatlas choose`: which network to take, within limits, and the proof of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, unknown
from ..limits import OF_CHOICES, parse_limit
from . import checks, source
from .output import add_formats, print_report, say, write_file

if TYPE_CHECKING:
    from ..choice.choose import Choice, Request
    from ..choice.facts import Fact
    from ..choice.verify import Measure
    from ..choice.yours import Judge
    from ..engines.results import Record

HELP = "which network to take: the best within limits, and the proof"
ENGINES = ("auto", "onnxruntime", "openvino")
PROTOCOLS = ("center", "unstated", "any")
MOST = 65536  # images of a batch
SECONDS = 2.0  # that --verify times each network for
LEARNING_S = 60.0  # that --verify learns the speed of a machine for, where that is not known


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: convatlas choose --limit 'top1>=70%' --limit 'params<=5M' --limit 'latency<=15ms' --html choice.html"
    ).replace("%", "%%")
    parser.add_argument(
        "--limit",
        metavar="LIMIT",
        action="append",
        default=[],
        help=f"only networks within this limit: 'params<=5M' (repeatable); on {', '.join(OF_CHOICES)}",
    )
    parser.add_argument(
        "--objective",
        metavar="Q",
        default="top1",
        help="the best by top1 (default), top5, latency, throughput, params, macs, size or memory",
    )
    parser.add_argument(
        "--over", metavar="Q,Q", help="the indices of the Pareto set (default: top1, and those of the limits)"
    )
    parser.add_argument("--batch", metavar="N", type=int, default=1, help="images at a time (default 1)")
    parser.add_argument(
        "--engine", metavar="E", default="auto", help="auto (the fastest; default), onnxruntime, openvino"
    )
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="threads that compute (default 1)")
    parser.add_argument(
        "--verify", action="store_true", help="measure the latencies that decide, and settle what is undecided"
    )
    parser.add_argument("--why", action="store_true", help="say of every network why it is not picked")
    parser.add_argument(
        "--scaled",
        metavar="NETWORK",
        nargs="*",
        help="and the largest that fits between the published points: MobileNet, EfficientNet, wide ResNet, or one of "
        "these networks",
    )
    images = parser.add_argument_group("your images")
    images.add_argument(
        "--data",
        metavar="SOURCE",
        help="judge by these, as for train: those that fit and whose weights are here, by a cross-validated probe",
    )
    source.add_bad(images)
    figures = parser.add_argument_group("accuracies")
    figures.add_argument(
        "--dataset", metavar="D", default="imagenet", help="on imagenet (default), cifar10, cifar100, svhn, mnist"
    )
    figures.add_argument(
        "--protocol",
        metavar="P",
        default="center",
        help="center: by one centre crop (default); unstated: or where none is stated; any",
    )
    figures.add_argument("--with-weights", action="store_true", help="only figures of weights that are published")
    figures.add_argument(
        "--results",
        metavar="FILE",
        type=Path,
        nargs="+",
        default=[],
        help="and the accuracies in results files: of `measure --out`, timm's results-imagenet*.csv",
    )
    figures.add_argument("--facts", action="store_true", help="print every known figure on the data set instead")
    form = add_formats(parser)
    form.add_argument("--html", metavar="FILE", type=Path, help="write a page with the picture")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the choice (.png, .svg, .pdf)")


def run(args: argparse.Namespace) -> None:
    limits = tuple(parse_limit(limit, OF_CHOICES) for limit in args.limit)
    checked(args)
    from ..choice.choose import Request, choose
    from ..choice.facts import facts
    from ..report.choice import facts_report, report

    request = Request(
        limits,
        dataset=args.dataset,
        objective=args.objective,
        over=tuple(name.strip() for name in args.over.split(",")) if args.over else (),
        batch=args.batch,
        engine=args.engine,
        threads=args.threads,
        protocols=args.protocol,
        with_weights=args.with_weights,
        data=args.data or "",
        scaled=None if args.scaled is None else tuple(args.scaled),
    )
    results = read(args.results)
    if args.facts:
        known = facts(results)
        if args.dataset not in (sets := {fact.dataset for fact in known}):
            raise unknown("data set", args.dataset, sorted(sets))
        print_report(facts_report(known, args.dataset), args)
        return
    from .measure import progress

    judge = judging(args) if args.data else None
    with progress() as tell:
        if args.verify and request.asked & {"latency", "throughput"}:
            learn(request, tell)
        choice = choose(request, results, measure=measuring(request) if args.verify else None, judge=judge, tell=tell)
    if args.html is not None:
        from ..report.choice_page import html

        say(write_file(args.html, html(choice, results)))
    else:
        picture = str(args.plot) if args.md and args.plot else ""
        print_report(report(choice, results, whole=args.why or args.md, picture=picture), args)
    if args.plot is not None:
        draw(choice, args)


def checked(args: argparse.Namespace) -> None:
    """Raises UserError for arguments that do not go together, before anything is computed."""
    if args.data is not None:
        checks.data_source(args.data)
        source.max_pixels(args)
    if args.engine not in ENGINES:
        raise unknown("engine", args.engine, ENGINES)
    if args.protocol not in PROTOCOLS:
        raise unknown("protocol", args.protocol, PROTOCOLS)
    if not 1 <= args.batch <= MOST:
        raise UserError(f"--batch {args.batch} is out of range", f"give 1 to {MOST}")
    checks.at_least_one("--threads", args.threads)
    if args.plot is not None:
        checks.picture("--plot", args.plot)
    if args.facts and (args.verify or args.plot or args.html or args.data or args.scaled is not None):
        others = "--verify, --plot, --html, --data and --scaled"
        raise UserError("--facts prints figures, and chooses nothing", f"leave out {others}")


def read(files: Sequence[Path]) -> list[Fact]:
    """The accuracies of results files; lines that are none are said."""
    from ..choice.results import read

    found, damages = read(files)
    for damage in damages:
        say(f"convatlas: {damage}", file=sys.stderr)
    if files and not found:
        raise UserError(f"there are no accuracies in {', '.join(map(str, files))}", "measure some with --data")
    return found


def learn(request: Request, tell: Callable[[float, str], None]) -> None:
    """Calibrates for the request, where this machine has no profile that holds for it."""
    from ..choice.costs import profiles_of

    try:
        profiles_of(request.engine, request.threads)
    except UserError:
        from ..engines.latency.calibrate import calibrate
        from ..engines.latency.profile import save

        engine = "onnxruntime" if request.engine == "auto" else request.engine
        say(f"convatlas: learning the speed of this machine, once: {LEARNING_S:g} s", file=sys.stderr)
        told = f"calibrating {engine}"
        try:
            save(calibrate(engine, threads=request.threads, seconds=LEARNING_S, tell=lambda done, _: tell(done, told)))
        except UserError as error:
            slowly = f"convatlas calibrate --engine {engine} --threads {request.threads} --seconds 300"
            raise UserError(error.what, f"run `{slowly}`, and then this again") from error


def measuring(request: Request) -> Measure:
    """Measures networks with random weights, which are as fast as others."""
    from ..choice.verify import remembering

    def measured(wanted: Sequence[tuple[str, str]]) -> list[Record]:
        from ..engines.job import Job
        from ..engines.measure import measure

        jobs = [Job(name, engine, threads=request.threads) for name, engine in wanted]
        return measure(jobs, [request.batch], seconds=SECONDS)

    return remembering(measured, request.threads, request.batch)


def judging(args: argparse.Namespace) -> Judge:
    """Judges by the training images of --data."""
    from ..choice.yours import judged_on

    args.val = 0.0  # all training images are learnt from, as `transfer` does
    return judged_on(source.load(args), args.data)


def draw(choice: Choice, args: argparse.Namespace) -> None:
    from ..report.choice_picture import draw

    picture = draw(choice, args.plot)
    if not (args.json or args.csv or args.md):
        say(f"The picture is in {picture}.")
