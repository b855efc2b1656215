"""`convatlas measure`: what networks cost on engines on this machine, side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, one_line, unknown
from ..limits import parse_percent, parse_seconds, whole_number
from . import checks, engine, model, source
from .output import add_formats, print_report, say

if TYPE_CHECKING:
    from ..engines.results import Damage, Record

HELP = "what networks cost here: accuracy, size, memory, time, energy"
MOST = 65536  # images of a batch
SHARE = 0.05  # slower by more than this is said, where --fail-above does not say otherwise


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas measure resnet18 mobilenet_v2 --batch 1,2,4 --engine torch,onnxruntime"
    parser.add_argument(
        "models", metavar="MODEL", nargs="*", help=f"{model.MODEL}; or a NETWORK's bare name, measured without weights"
    )
    model.add_options(parser)
    parser.add_argument("--batch", metavar="N,N", default="1", help="batch sizes: 1,8 or 1,2,4,...,64 (default 1)")
    parser.add_argument("--engine", metavar="E,E", default="torch", help="torch (default), onnxruntime, openvino, auto")
    parser.add_argument("--precision", metavar="P,P", default="fp32", help="fp32 (default), bf16, int8")
    parser.add_argument("--calibrate", metavar="SOURCE", help="data whose training images set the ranges of int8")
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="threads that compute (default 1)")
    parser.add_argument("--device", metavar="D", default="cpu", help="cpu (default), auto, cuda, cuda:1 ...")
    parser.add_argument("--seconds", metavar="TIME", default="2s", help="to time each row for: 2s (default), 1m ...")
    data = parser.add_argument_group("accuracy")
    data.add_argument("--data", metavar="SOURCE", help="measure it on this data; else it is the published one")
    source.add_val(data)
    source.add_bad(data)
    files = parser.add_argument_group("results")
    files.add_argument("--out", metavar="FILE", type=Path, help="add the results to this file (JSON lines)")
    files.add_argument(
        "--read", metavar="FILE", type=Path, nargs="+", help="show results of files, of other machines and timm's too"
    )
    files.add_argument("--against", metavar="FILE", type=Path, help="compare with the older results of this file")
    files.add_argument(
        "--fail-above", metavar="SHARE", help="exit status 1 if any is surely slower by more than this: 5%%"
    )
    files.add_argument("--other-machine", action="store_true", help="compare with results of another machine")
    add_formats(parser)


def run(args: argparse.Namespace) -> int:
    checked(args)
    share = parse_percent(args.fail_above) if args.fail_above else SHARE
    old = read([args.against])[0] if args.against else []
    if args.out:
        from ..engines.results import append

        append(args.out, [])
    damages: list[Damage] = []
    if args.read:
        records, damages = read(args.read)
    else:
        records = measured(args)
    from ..report import measure as printed

    if not args.against:
        print_report(printed.report(records, damages), args)
        return 0
    from ..engines.changes import changes

    found = changes(records, old, other_machine=args.other_machine)
    print_report(printed.change_report(found, share), args)
    return int(bool(args.fail_above) and any(change.slower_than(share) for change in found))


def checked(args: argparse.Namespace) -> None:
    """Raises UserError for arguments that do not go together, before torch is imported."""
    if bool(args.models) == bool(args.read):
        raise UserError("measure takes models to measure, or results to --read", "give one of the two")
    if args.read and args.out:
        raise UserError("--out is for what is measured now, and --read measures nothing", "leave out one of them")
    if not args.against and (args.fail_above or args.other_machine):
        option = "--fail-above" if args.fail_above else "--other-machine"
        raise UserError(f"{option} compares with older results", "say which with --against FILE")
    for given in args.models:
        model.checked(given)
    checks.device(args.device)
    checks.at_least_one("--threads", args.threads)
    batches(args.batch)
    precisions = names("precision", args.precision, engine.PRECISIONS)
    names("engine", args.engine, engine.ENGINES)
    if ("int8" in precisions) != bool(args.calibrate):
        raise UserError("int8 needs images to calibrate on, and nothing else does", "give both, or neither")
    for source_given in (args.data, args.calibrate):
        if source_given:
            checks.data_source(source_given)
    parse_seconds(args.seconds)


def names(kind: str, text: str, legal: Sequence[str]) -> list[str]:
    """ "torch,openvino" -> both names. Raises UserError for one that is not legal."""
    found = [name.strip() for name in text.split(",")]
    for name in found:
        if name not in legal:
            raise unknown(kind, name, legal)
    return found


def batches(text: str) -> list[int]:
    """ "1,2,4,...,64" -> [1, 2, 4, 8, 16, 32, 64]; "1,3,...,9" -> [1, 3, 5, 7, 9]."""
    found: list[int] = []
    parts = [part.strip() for part in text.split(",")]
    for i, part in enumerate(parts):
        if part in ("...", "…"):
            found += between(found, number("".join(parts[i + 1 : i + 2]), text), text)
        else:
            found.append(number(part, text))
    return sorted(set(found))


def between(before: Sequence[int], last: int, text: str) -> list[int]:
    """What three dots stand for: the two numbers before them doubled go on doubling, others go on in equal steps."""
    if len(before) < 2 or not before[-2] < before[-1] < last:
        raise UserError(f"--batch {text[:40]!r} does not say how it goes on", "write it as in 1,2,4,...,64")
    a, b = before[-2:]
    found = []
    while (b := 2 * b if before[-1] == 2 * a else b + before[-1] - a) < last:
        found.append(b)
    return found


def number(part: str, text: str) -> int:
    n = whole_number(part) or 0
    if not 0 < n <= MOST:
        raise UserError(f"--batch {text[:40]!r} is not a list of batch sizes", "write it as in 1,8 or 1,2,4,...,64")
    return n


def read(files: Sequence[Path]) -> tuple[list[Record], list[Damage]]:
    """The newest records of files, ours and timm's; lines that are none are said."""
    from ..engines.results_files import read_all

    records, damages = read_all(files)
    for damage in damages:
        say(f"convatlas: {damage}", file=sys.stderr)
    return records, damages


def measured(args: argparse.Namespace) -> list[Record]:
    from ..data.sources import load_data
    from ..engines.job import Job
    from ..engines.measure import measure
    from ..engines.results import append
    from ..machine.device import choose_device

    device = str(choose_device(args.device))
    given = {"which": args.which, "network": args.network, "preprocess": args.preprocess}
    jobs = [
        Job(name, engine_name, precision, args.threads, device, **given)
        for name in args.models
        for engine_name in names("engine", args.engine, engine.ENGINES)
        for precision in names("precision", args.precision, engine.PRECISIONS)
    ]
    data = source.load(args) if args.data else None
    with progress() as tell:
        return measure(
            jobs,
            batches(args.batch),
            seconds=parse_seconds(args.seconds),
            data=data,
            data_name=args.data or "",
            calibrate=load_data(args.calibrate) if args.calibrate else None,
            keep=lambda records: append(args.out, records) if args.out else None,
            tell=tell,
        )


@contextmanager
def progress() -> Iterator[Callable[[float, str], None]]:
    """A bar on a terminal, drawn only when told: a thread that draws it would be counted as the network's."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    console = Console(stderr=True, highlight=False, emoji=False)
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=1.0)

        def tell(done: float, what: str) -> None:
            bar.update(task, completed=done, description=one_line(what).replace("[", "\\["), refresh=True)

        yield tell
