"""The results of memory(): bytes as functions of the batch, peaks, and what each module saves for the backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..rows import stage_of

OPTIMIZERS = {  # what `memory` accepts by name
    "sgd": "SGD with momentum",
    "adam": "Adam",
    "rmsprop": "RMSprop with momentum",
    "muon": "Muon",
}


@dataclass(frozen=True)
class Affine:
    """The bytes for a batch of n images: fixed + each * n."""

    fixed: int
    each: int

    def of(self, batch: int) -> int:
        return self.fixed + self.each * batch

    def __add__(self, other: Affine) -> Affine:
        return Affine(self.fixed + other.fixed, self.each + other.each)


@dataclass(frozen=True)
class Saved:
    """Bytes saved for the backward pass, by the module that saves them first. `path` is "loss" for the loss."""

    path: str
    op: str  # the module's class
    bytes: Affine


@dataclass(frozen=True)
class Moment:
    """The bytes that tensors hold after one operator."""

    phase: str  # "forward", "backward" or "optimizer"
    op: str
    bytes: Affine


@dataclass(frozen=True)
class Peak:
    """The moments that are the largest for some batch size."""

    moments: tuple[Moment, ...]

    def moment(self, batch: int) -> Moment:
        return max(self.moments, key=lambda m: m.bytes.of(batch))

    def of(self, batch: int) -> int:
        """The most bytes that tensors hold at any moment, including parameters and the batch."""
        return self.moment(batch).bytes.of(batch)

    def largest_batch(self, limit: int) -> int:
        """The largest batch with a peak of at most `limit` bytes; 0 if one image is already too many."""
        rooms = ((limit - m.bytes.fixed, m.bytes.each) for m in self.moments)
        return max(0, min(room // each if each > 0 else (1 << 62 if room >= 0 else 0) for room, each in rooms))


@dataclass(frozen=True)
class Checkpointed:
    """Activation checkpointing: `units` modules in `segments`; only the inputs of the segments are saved."""

    units: int
    segments: int
    saved: Affine
    training: Peak
    extra_macs: Affine  # recomputed in the backward pass
    forward_macs: Affine


@dataclass(frozen=True)
class Memory:
    """Bytes. The optimizer's state is that after its first step; `training` is the peak of any later step."""

    name: str
    input: tuple[Any, ...]  # C x H x W; with several inputs, the shape of each
    batch: int
    optimizer: str
    amp: bool
    parameters: int
    buffers: int
    gradients: int
    optimizer_state: int
    images: Affine  # the inputs, and in training the labels
    saved: tuple[Saved, ...]  # by module, in the order of saving; without parameters, buffers and images
    training: Peak
    inference: Peak
    drawn: bool  # the network computes a random part of itself in training: these figures are for one draw

    @property
    def saved_bytes(self) -> Affine:
        return sum((s.bytes for s in self.saved), Affine(0, 0))

    def stages(self) -> dict[str, Affine]:
        """The bytes saved, by stage: the stem, each stage, the head, the loss."""
        found: dict[str, Affine] = {}
        for s in self.saved:
            stage = stage_of(s.path)
            found[stage] = found.get(stage, Affine(0, 0)) + s.bytes
        return found


@dataclass(frozen=True)
class Measured:
    """Peaks, in bytes, measured in one pass on a device."""

    live: int  # what tensors held, as `memory` predicts it
    allocated: int | None  # what a GPU's allocator allocated: tensors and kernels' workspaces, rounded up
    reserved: int | None  # what it reserved on the GPU for that; both None on the CPU, which does not count
