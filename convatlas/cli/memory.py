"""`convatlas memory`: where the bytes go in training and in inference, and the largest batch that fits."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..accounting.memory.figures import OPTIMIZERS
from ..errors import UserError
from .output import parse_input, print_json, print_table, size

if TYPE_CHECKING:
    from ..accounting.memory.figures import Affine, Checkpointed, Memory, Peak

HELP = "show the bytes that a network takes to train and to run, and the largest batch that fits"
UNITS = {
    "B": 1,
    **{f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)},
    **{f"{p}iB": 1024**i for i, p in enumerate("KMGT", 1)},
}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a network, as `list` or its paper spells it")
    parser.add_argument("--input", metavar="CxHxW", help="image size (default: the paper's)")
    parser.add_argument("--classes", metavar="N", type=int, help="number of classes (default: the paper's)")
    parser.add_argument("--batch", metavar="N", type=int, default=32, help="images at a time (default 32)")
    parser.add_argument("--limit", metavar="SIZE", help="memory to fit in, such as 8GB, 8GiB or 500MB")
    parser.add_argument(
        "--optimizer", choices=OPTIMIZERS, default="sgd", help="sgd and rmsprop with momentum (default sgd)"
    )
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--aux", action="store_true", help="train the auxiliary classifiers too")
    parser.add_argument(
        "--level", choices=("stage", "layer"), default="stage", help="what is saved, by (default stage)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def parse_size(text: str) -> int:
    """ "8GB" -> 8,000,000,000; "8GiB" -> 8 * 2**30."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?b)\s*", text, re.IGNORECASE)
    unit = {name.lower(): n for name, n in UNITS.items()}.get(match[2].lower()) if match else None
    if match is None or unit is None or float(match[1]) == 0:
        raise UserError(
            f"size {text!r} is no number of bytes", "write 8GB (8 x 1000^3 bytes), 8GiB (8 x 1024^3) or 500MB"
        )
    return int(float(match[1]) * unit)


def run(args: argparse.Namespace) -> None:
    limit = None if args.limit is None else parse_size(args.limit)
    shape = args.input and parse_input(args.input)
    with busy(f"running {args.name} without computing"):
        from ..accounting.memory.predict import checkpointed, memory

        made = {} if args.classes is None else {"classes": args.classes}
        how = {"optimizer": args.optimizer, "amp": args.amp, **made}
        found = memory(args.name, shape, args.batch, auxiliary=args.aux, **how)
        cut = None if args.aux else checkpointed(args.name, shape, **how)
    if args.json:
        print_json(to_json(found, cut, limit))
        return
    print(heading(found))
    print_table(("bytes", f"batch of {found.batch}", "MB", "each image"), rows(found, args.level))
    print("\n".join(summary(found, cut, limit)))


def busy(text: str) -> AbstractContextManager[Any]:
    """A spinner on the terminal while it takes its time."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(text)


def heading(m: Memory) -> str:

    precision = "autocast to bfloat16" if m.amp else "float32"
    return f"{m.name} on {m.batch:,} images of {size(m.input)}, trained with {OPTIMIZERS[m.optimizer]}, {precision}"


def rows(m: Memory, level: str) -> Iterator[tuple[str, ...]]:
    def row(name: str, fixed: int, each: int = 0) -> tuple[str, ...]:
        total = fixed + each * m.batch
        return name, f"{total:,}", f"{total / 1e6:,.2f}", f"{each:,}" if each else ""

    yield row("parameters", m.parameters)
    yield row("buffers", m.buffers)
    yield row("gradients", m.gradients)
    yield row("optimizer state", m.optimizer_state)
    yield row("images and labels", m.images.fixed, m.images.each)
    for name, b in m.stages().items() if level == "stage" else ((s.path, s.bytes) for s in m.saved):
        yield row(f"saved by {name}", b.fixed, b.each)
    yield row("saved for backward, in all", m.saved_bytes.fixed, m.saved_bytes.each)
    for name, peak in (("peak in training", m.training), ("peak in inference", m.inference)):
        b = peak.moment(m.batch).bytes
        yield row(name, b.fixed, b.each)


def summary(m: Memory, cut: Checkpointed | None, limit: int | None) -> Iterator[str]:
    train, infer = m.training.moment(m.batch), m.inference.moment(m.batch)
    where = f"the {train.phase} {'step' if train.phase == 'optimizer' else 'pass'}"
    yield f"Training peaks in {where}, after {train.op.strip('_')}; inference after {infer.op.strip('_')}."
    yield "A peak counts what tensors hold; what kernels take while they run, and the allocator keeps, comes on top."
    if m.drawn:
        yield "In training this network draws what it computes: these are the bytes of one draw, another may take more."
    if cut:
        saved, peak = cut.saved.of(m.batch), cut.training.of(m.batch)
        less, more = 1 - peak / m.training.of(m.batch), cut.extra_macs.each / cut.forward_macs.each
        yield (
            f"With checkpoints (its {cut.units} modules one after the other, in {cut.segments} segments): "
            f"{saved / 1e6:,.2f} MB saved,\n"
            f"peak {peak / 1e6:,.2f} MB ({less:.0%} less), for {cut.extra_macs.each:,} multiply-adds more an image "
            f"({more:.0%} of a forward pass)."
        )
    if limit:
        yield f"In {limit:,} bytes:"
        yield f"  training   {fits(m.training, limit)}" + (
            f"; with checkpoints {fits(cut.training, limit)}" if cut else ""
        )
        yield f"  inference  {fits(m.inference, limit)}"


def fits(peak: Peak, limit: int) -> str:
    n = peak.largest_batch(limit)
    return f"{n:,} {'image' if n == 1 else 'images'} at most" if n else "not even one image"


def to_json(m: Memory, cut: Checkpointed | None, limit: int | None) -> dict[str, Any]:
    """Bytes of a batch are `fixed` + `each` x images."""

    def at(b: Affine) -> dict[str, int]:
        return {**asdict(b), "batch": b.of(m.batch)}

    def peak(p: Peak) -> dict[str, Any]:
        moment = p.moment(m.batch)
        room = {} if limit is None else {"largest_batch": p.largest_batch(limit)}
        return {"bytes": moment.bytes.of(m.batch), "phase": moment.phase, "op": moment.op, **room}

    plain = (
        "name",
        "input",
        "batch",
        "optimizer",
        "amp",
        "parameters",
        "buffers",
        "gradients",
        "optimizer_state",
        "drawn",
    )
    return {
        **{k: getattr(m, k) for k in plain},
        "limit": limit,
        "images": at(m.images),
        "saved": at(m.saved_bytes),
        "saved_by": [{"path": s.path, "op": s.op, **at(s.bytes)} for s in m.saved],
        "training": peak(m.training),
        "inference": peak(m.inference),
        "checkpointed": cut
        and {
            "units": cut.units,
            "segments": cut.segments,
            "saved": at(cut.saved),
            "training": peak(cut.training),
            "extra_macs_each": cut.extra_macs.each,
            "forward_macs_each": cut.forward_macs.each,
        },
    }
