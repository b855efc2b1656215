"""Execution: how this machine does what a recipe asks for. Decided once, at the start, and kept in run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from psutil import virtual_memory

from ..accounting import account
from ..accounting.memory.predict import memory
from ..errors import UserError, unknown
from ..layers import ConvNet
from ..machine.processes import World
from ..recipe import Recipe
from .segments import cut

PRECISIONS = ("auto", "float32", "bfloat16")
MEMORY_FORMATS = ("channels_last", "contiguous")
WORTH_CASTING = 10_000_000  # MACs an image: a smaller network loses more by the casts than bfloat16 gains on a CPU
SHARE_OF_MEMORY = 0.8  # of what is free; the rest is for images, workers and the allocator's slack


@dataclass(frozen=True)
class Execution:
    """What changes a run's speed and memory, and only the last bits of what it learns (batch norm's apart, below).

    `precision` "auto" is bfloat16 (by autocast; weights stay float32) where the device computes with it.
    `memory_format` is that of weights and images: "channels_last", faster nearly everywhere, or "contiguous".
    `micro_batch` is the most images that pass the network at once (0: as many as the memory holds): the gradients of
    the parts of a batch are added up before the optimizer's step, so the batch and the steps stay the recipe's, but
    batch norm takes its statistics of a part. `segments` are runs of layers of which only the input is kept, and the
    rest computed again in the backward pass (0: all is kept). `compile` hands the network to torch.compile.
    `sync_bn` takes batch norm's statistics over all processes. `save_every_s` is the time between checkpoints within
    an epoch, which a kill may cost; at an epoch's end there is one always. `tensorboard` writes the log a second time,
    for TensorBoard (extra `log`). `workers` are the threads that read and decode images ahead (see data/loading.py).
    Raises UserError for values that cannot be.
    """

    precision: str = "auto"
    memory_format: str = "channels_last"
    micro_batch: int = 0
    segments: int = 0
    compile: bool = False
    sync_bn: bool = False
    save_every_s: float = 600.0
    tensorboard: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.memory_format not in MEMORY_FORMATS:
            raise unknown("memory format", self.memory_format, MEMORY_FORMATS)
        for name in ("micro_batch", "segments", "save_every_s"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name}={getattr(self, name)} is below 0", "give 0 or more")
        if self.workers is not None and self.workers < 0:
            raise UserError(f"workers={self.workers} is below 0", "give 0 or more")

    def overridden_by(self, other: Execution) -> Execution:
        """This execution with what `other` gives differently from the default."""
        given = {f.name: getattr(other, f.name) for f in fields(other) if getattr(other, f.name) != f.default}
        return replace(self, **given)

    @property
    def strides(self) -> torch.memory_format:
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Execution:
        """The execution that `to_json` made the record of. Raises UserError for a field that is unknown."""
        known = [f.name for f in fields(cls)]
        for name in record:
            if name not in known:
                raise unknown("execution field", name, known)
        return cls(**record)


def decide(execution: Execution, net: ConvNet, recipe: Recipe, device: torch.device, world: World) -> Execution:
    """The execution with everything settled that it left open. `net` may be on the meta device.

    Raises UserError for bfloat16 on a device that does not compute with it, for SyncBatchNorm on a CPU, and for a
    network whose predicted memory is more than is free even for one image.
    """
    if execution.sync_bn and device.type != "cuda":
        raise UserError("sync_bn is for GPUs: torch has no SyncBatchNorm on a CPU", "leave it out")
    has_bfloat16 = computes_bfloat16(device)
    if execution.precision == "bfloat16" and not has_bfloat16:
        raise UserError(f"this {device.type} does not compute with bfloat16", "give --precision float32")
    if execution.segments:
        if recipe.aux_weight and net.has_aux:
            raise UserError(f"{net.variant} has auxiliary classifiers, which segments leave out", "--set aux_weight=0")
        cut(net, execution.segments, net.variant)  # refuses what cannot be cut
    if execution.precision == "auto":
        worth = device.type == "cuda" or account(net).totals.macs >= WORTH_CASTING
        execution = replace(execution, precision="bfloat16" if has_bfloat16 and worth else "float32")
    share = -(-recipe.batch // world.size)
    if execution.micro_batch == 0 and device.type == "cpu" and not execution.segments:
        execution = replace(
            execution, micro_batch=images_that_fit(net, recipe, share, virtual_memory().available // world.size)
        )
    return replace(execution, micro_batch=min(execution.micro_batch or share, share))


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16, rather than imitating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def images_that_fit(net: ConvNet, recipe: Recipe, batch: int, free: int) -> int:
    """How many images of a batch fit in `free` bytes at once, as `memory` predicts."""
    auxiliary = bool(recipe.aux_weight) and net.has_aux
    need = memory(net, optimizer=recipe.optimizer.kind.removesuffix("w"), auxiliary=auxiliary).training
    fits = min(batch, need.largest_batch(int(SHARE_OF_MEMORY * free)))
    if fits == 0:
        raise UserError(
            f"{net.variant} takes {need.of(1) / 1e9:.1f} GB to train on one image, and {free / 1e9:.1f} GB are free",
            "give a smaller --input, or --segments to compute more and keep less",
        )
    return fits
