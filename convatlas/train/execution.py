"""Execution: how this machine carries out a recipe. Decided once, when a run starts, and recorded in run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal

import torch
from psutil import virtual_memory

from ..accounting import account
from ..accounting.memory.predict import memory
from ..checked import Checked, Natural, NonNegative, Range
from ..data.loading import MOST_WORKERS
from ..errors import UserError
from ..layers import ConvNet
from ..machine.processes import World
from ..recipe import Recipe
from .segments import cut

WORTH_CASTING = 10_000_000  # MACs per image: below this, on a CPU, the casts cost more than bfloat16 saves
READ_EVERY = 16  # steps, on a GPU
SHARE_OF_MEMORY = 0.8  # of free memory; the rest is for images, workers and fragmentation in the allocator


@dataclass(frozen=True)
class Execution(Checked):
    """What affects a run's speed and memory, but not what it learns, beyond rounding (and batch norm; see below).

    `precision`: "auto" is bfloat16 autocast (weights stay float32) where the device supports it in hardware.
    `memory_format`: of weights and images: "channels_last", faster nearly everywhere, or "contiguous".
    `micro_batch`: gradient accumulation: images per pass (0: as many as fit in memory). The gradients of a batch's
    parts are accumulated before the optimizer's step, so the batch size and the number of steps are the recipe's, but
    batch norm takes its statistics from each part.
    `segments`: activation checkpointing in this many segments (0: off): only the input of each segment is kept, and its
    activations are recomputed in the backward pass.
    `compile`: whether to use torch.compile (None: where a trial says that it pays; see trial.py).
    `sync_bn`: whether batch norm takes its statistics over all processes.
    `save_every_s`: time between checkpoints within an epoch, and so the most training time that a kill can lose; there
    is always a checkpoint at the end of an epoch.
    `tensorboard`: whether to write the log for TensorBoard as well (extra `log`).
    `read_every`: steps between readings of the loss from the device, which waits for it (0: 1 on a CPU, 16 on a GPU).
    A loss or gradient that is not finite stops the weights from changing at once, and the run at the next reading.
    `deterministic`: only deterministic algorithms, slower on a GPU: two runs, and a run that was stopped and resumed,
    then end in the same bits there too, as they do on a CPU in any case.
    `graph`: whether a GPU replays the step as a CUDA graph, for small networks, whose time goes into launches (None:
    where a trial says that it pays; see graph.py).
    `resident`: whether a training set in memory is kept on the GPU, and cropped and scaled there (None: where it fits).
    Pixels scaled there may differ by a level or two from Pillow's; evaluation always uses Pillow's.
    `workers`: threads that read and decode images ahead of training (see data/loading.py).
    Raises UserError for invalid values.
    """

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"
    micro_batch: Natural = 0
    segments: Natural = 0
    compile: bool | None = None
    sync_bn: bool = False
    save_every_s: NonNegative = 600.0
    tensorboard: bool = False
    workers: Annotated[int, Range(0, MOST_WORKERS)] | None = None
    read_every: Natural = 0
    deterministic: bool = False
    graph: bool | None = None
    resident: bool | None = None

    def overridden_by(self, other: Execution) -> Execution:
        """This execution, with every field of `other` that differs from its default replaced."""
        given = {f.name: getattr(other, f.name) for f in fields(other) if getattr(other, f.name) != f.default}
        return replace(self, **given)

    @property
    def strides(self) -> torch.memory_format:
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Execution:
        """The inverse of `to_json`. Raises UserError for an unknown field, and for a value of the wrong type."""
        return cls.from_values("execution", record)


def decide(execution: Execution, net: ConvNet, recipe: Recipe, device: torch.device, world: World) -> Execution:
    """The execution with every automatic choice made. `net` may be on the meta device.

    Raises UserError for bfloat16 on a device without hardware support, for SyncBatchNorm on a CPU, for segments that
    the network cannot be cut into, and if the predicted memory for a single image exceeds what is free.
    """
    if execution.sync_bn and device.type != "cuda":
        raise UserError("sync_bn needs a GPU: torch's SyncBatchNorm does not run on a CPU", "leave out --sync-bn")
    has_bfloat16 = computes_bfloat16(device)
    if execution.precision == "bfloat16" and not has_bfloat16:
        raise UserError(f"this {device.type} does not support bfloat16", "give --precision float32")
    if execution.segments:
        if recipe.aux_weight and net.has_aux:
            raise UserError(
                f"activation checkpointing does not run the auxiliary classifiers of {net.variant}",
                "train without them: --set aux_weight=0",
            )
        cut(net, execution.segments, net.variant)  # raises UserError where the network cannot be cut
    if recipe.tuning and recipe.tuning.unfreeze and world.size > 1:
        raise UserError(
            "several processes cannot unfreeze one part after another", "train in one, or all from the start"
        )
    if execution.graph and device.type != "cuda":
        raise UserError(f"a CUDA graph needs a GPU, not a {device.type}", "leave out --graph")
    if execution.precision == "auto":
        worth = device.type == "cuda" or account(net).totals.macs >= WORTH_CASTING
        execution = replace(execution, precision="bfloat16" if has_bfloat16 and worth else "float32")
    share = -(-recipe.batch // world.size)
    if execution.micro_batch == 0 and device.type == "cpu" and not execution.segments:
        execution = replace(
            execution, micro_batch=images_that_fit(net, recipe, share, virtual_memory().available // world.size)
        )
    read_every = execution.read_every or (READ_EVERY if device.type == "cuda" else 1)
    no_graph = not_captured(net, recipe, bool(execution.segments) or 0 < execution.micro_batch < share)
    if execution.graph and no_graph:
        raise UserError(f"a CUDA graph replays the same step every time: {no_graph}", "leave out --graph")
    if device.type == "cpu" or world.size > 1:  # nothing to try: see trial.py
        execution = replace(execution, graph=bool(execution.graph), compile=bool(execution.compile))
    elif no_graph:
        execution = replace(execution, graph=False)
    return replace(execution, micro_batch=min(execution.micro_batch or share, share), read_every=read_every)


def not_captured(net: ConvNet, recipe: Recipe, parts: bool) -> str | None:
    """Why a step of the network, whose batch goes through it in `parts` or at once, is not the same work every time."""
    if net.has_unused_parameters or type(net).set_progress is not ConvNet.set_progress:
        return f"{net.variant} runs other layers, or other rates, from step to step"
    if recipe.tuning and recipe.tuning.unfreeze:
        return "more parts learn from epoch to epoch"
    if parts:
        return "a batch that goes through the network in parts or segments is not captured"
    return None


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16, rather than emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def images_that_fit(net: ConvNet, recipe: Recipe, batch: int, free: int) -> int:
    """How many images of a batch fit in `free` bytes at once, as predicted by `memory`."""
    auxiliary = bool(recipe.aux_weight) and net.has_aux
    need = memory(net, optimizer=recipe.optimizer.kind.removesuffix("w"), auxiliary=auxiliary).training
    fits = min(batch, need.largest_batch(int(SHARE_OF_MEMORY * free)))
    if fits == 0:
        raise UserError(
            f"{net.variant} needs {need.of(1) / 1e9:.1f} GB to train on one image, and {free / 1e9:.1f} GB is free",
            "give a smaller --input, or --segments for activation checkpointing",
        )
    return fits
