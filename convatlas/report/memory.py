"""Memory use in training and inference, and the largest batch that fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ..accounting.memory.figures import OPTIMIZERS, Affine, Checkpointed, Memory, Peak
from ..errors import one_line
from .columns import input_size
from .tables import Report, Table, label, number

PLAIN = ("name", "input", "batch", "optimizer", "amp", "parameters", "buffers", "gradients", "optimizer_state", "drawn")


def report(m: Memory, cut: Checkpointed | None = None, fit: int | None = None, level: str = "stage") -> Report:
    """The bytes of each kind, and those saved by each stage or layer; the peaks; `cut`: with activation checkpointing;
    and the largest batches that fit in `fit` bytes."""
    columns = (
        label("bytes of", "what"),
        number(f"batch of {m.batch}", "bytes"),
        number("MB", drop=1, show="{:,.2f}".format, short=None),
        number("each image", "each"),
    )
    rows = [(what, b.of(m.batch), b.of(m.batch) / 1e6, b.each or None) for what, b in amounts(m, level)]
    return Report(
        Table("bytes", columns, rows),
        before=(heading(m),),
        after=("\n".join(summary(m, cut, fit)),),
        record=record(m, cut, fit),
    )


def heading(m: Memory) -> str:
    precision = "autocast to bfloat16" if m.amp else "float32"
    trained = f"trained with {OPTIMIZERS[m.optimizer]}, {precision}"
    return f"{one_line(m.name)} on {m.batch:,} images of {input_size(m.input)}, {trained}"


def amounts(m: Memory, level: str) -> Iterator[tuple[str, Affine]]:
    for name in ("parameters", "buffers", "gradients", "optimizer_state"):
        yield name.replace("_", " "), Affine(getattr(m, name), 0)
    yield "images and labels", m.images
    for name, saved in m.stages().items() if level == "stage" else ((s.path, s.bytes) for s in m.saved):
        yield f"saved by {name}", saved
    yield "saved for backward, in all", m.saved_bytes
    yield "peak in training", m.training.moment(m.batch).bytes
    yield "peak in inference", m.inference.moment(m.batch).bytes


def summary(m: Memory, cut: Checkpointed | None, fit: int | None) -> Iterator[str]:
    train, infer = m.training.moment(m.batch), m.inference.moment(m.batch)
    where = f"the {train.phase} {'step' if train.phase == 'optimizer' else 'pass'}"
    yield f"Training peaks in {where}, after {train.op.strip('_')}; inference after {infer.op.strip('_')}."
    yield "A peak counts tensors only; kernel workspaces and memory reserved by the allocator come on top."
    if m.drawn:
        yield "In training this network is stochastic: these are the bytes of one random draw; another may take more."
    if cut:
        saved, peak = cut.saved.of(m.batch), cut.training.of(m.batch)
        less, more = 1 - peak / m.training.of(m.batch), cut.extra_macs.each / cut.forward_macs.each
        yield (
            f"With activation checkpointing in {cut.segments} segments (of {cut.units} sequential modules): "
            f"{saved / 1e6:,.2f} MB saved, peak {peak / 1e6:,.2f} MB ({less:.0%} less), for {cut.extra_macs.each:,} "
            f"more multiply-adds per image ({more:.0%} of a forward pass)."
        )
    if fit:
        checkpointed = f"; with activation checkpointing {largest(cut.training, fit)}" if cut else ""
        yield f"In {fit:,} bytes:"
        yield f"  training   {largest(m.training, fit)}{checkpointed}"
        yield f"  inference  {largest(m.inference, fit)}"


def largest(peak: Peak, fit: int) -> str:
    n = peak.largest_batch(fit)
    return f"{n:,} {'image' if n == 1 else 'images'} at most" if n else "not even one image"


def record(m: Memory, cut: Checkpointed | None, fit: int | None) -> dict[str, Any]:
    """Bytes for a batch are `fixed` + `each` x images."""

    def at(b: Affine) -> dict[str, int]:
        return {**asdict(b), "batch": b.of(m.batch)}

    def peak(p: Peak) -> dict[str, Any]:
        moment = p.moment(m.batch)
        room = {} if fit is None else {"largest_batch": p.largest_batch(fit)}
        return {"bytes": moment.bytes.of(m.batch), "phase": moment.phase, "op": moment.op, **room}

    return {
        **{name: getattr(m, name) for name in PLAIN},
        "fit": fit,
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
