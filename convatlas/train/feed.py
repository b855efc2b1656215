"""Feed: the batches of an epoch on the device: read, augmented, normalised, mixed and shared among processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.augment import Colours, augment, crops_of, mix, order
from ..data.augment.keys import Epoch
from ..data.loading import fetched
from ..data.normalise import normalise
from ..data.types import MemorySplit
from ..recipe import CROPS, MIXES, operation
from ..runs.folder import Run
from .graph import Capture, Graphed
from .job import Job

During = Callable[[], AbstractContextManager[None]]
RESIDENT_SHARE = 0.25  # of a GPU's free memory, at most, for a training set that is kept there


@dataclass
class Batch:
    """This process's share of a global batch of `size` images."""

    size: int
    indices: Tensor  # int64 (n,) in the training split
    labels: Tensor  # int64 (n,)
    x: Tensor  # float32 (n, C, H, W)
    target: Tensor  # labels, or shares of classes (n, classes) where images are mixed


class Feed:
    """`for batch in feed.epoch(epoch)`: every epoch in a new order, every image augmented by (seed, epoch, index).

    A set in memory that fits is kept on the GPU as uint8; all work after reading is done on the device.
    """

    def __init__(self, job: Job, run: Run, capture: Capture | None = None):
        self.job, self.run = job, run
        self.labels = job.data.train.labels.to(job.device)
        self.colours = Colours.from_json(run.record.colours)
        ops = [operation(op)[0] for op in job.recipe.augment]
        self.mixed = any(op in MIXES for op in ops)  # mixing needs the whole global batch
        self.resident = None if any(op in CROPS for op in ops) else self.on_device()
        self.graphed = Graphed("the augmentation", self.augmented, job.on_event, capture) if capture else None

    def on_device(self) -> Tensor | None:
        """The resized training set on the GPU, uint8 (N, C, H, W); None if it is not in memory or does not fit."""
        split, device, preprocess = self.job.data.train, self.job.device, self.run.preprocess
        if device.type != "cuda" or not isinstance(split, MemorySplit):
            return None
        if len(split) * math.prod(preprocess.input) > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            return None
        return split.fetch(torch.arange(len(split)), preprocess).to(device)

    def epoch(self, epoch: int, start: int = 0, during: During = nullcontext) -> Iterator[Batch]:
        """The batches of an epoch (from 0) from step `start` on, each made within `during()`."""
        job = self.job
        images = order(len(job.data.train), seed=job.seed, epoch=epoch)
        if self.resident is not None:
            images = images.to(job.device)
        batches = images.split(job.recipe.batch)[start : job.steps]
        mine = batches if self.mixed else [job.world.share(batch) for batch in batches]
        loaded = self.images(mine, epoch)
        for batch, indices in zip(batches, mine):
            with during():
                ready = self.prepared(next(loaded), indices, epoch, len(batch))
            yield ready

    def batch(self, epoch: int, step: int) -> Batch:
        """One batch of an epoch, once more."""
        return next(self.epoch(epoch, step))

    def images(self, batches: Sequence[Tensor], epoch: int) -> Iterator[Tensor]:
        """The images of each of `batches` (indices) on the device, uint8 (n, C, H, W)."""
        job, preprocess, device = self.job, self.run.preprocess, self.job.device
        if self.resident is not None:
            return (self.resident.index_select(0, indices) for indices in batches)
        crops = crops_of(job.recipe.augment, preprocess.input[1:], seed=job.seed, epoch=epoch)
        loaded = fetched(job.data.train, batches, preprocess, crops, workers=job.execution.workers)
        return copied_ahead(loaded, device) if device.type == "cuda" else (images.to(device) for images in loaded)

    def prepared(self, images: Tensor, indices: Tensor, epoch: int, size: int) -> Batch:
        """The batch whose images, uint8 on the device, are these."""
        job, ops = self.job, self.job.recipe.augment
        if self.graphed:
            now = torch.full((), epoch, device=images.device)  # an argument of the graph
            x, labels = self.graphed(images, indices.to(images.device), now)
        else:
            x, labels = self.augmented(images, indices, epoch)
        x, target = mix(x, labels, indices, ops=ops, classes=len(job.data.classes), seed=job.seed, epoch=epoch)
        if self.mixed:
            indices, labels, x, target = map(job.world.share, (indices, labels, x, target))
        return Batch(size, indices, labels, x, target)

    def augmented(self, images: Tensor, indices: Tensor, epoch: Epoch) -> tuple[Tensor, Tensor]:
        """Network input (n, C, H, W) and labels (n,)."""
        ops, seed = self.job.recipe.augment, self.job.seed
        images = augment(images, indices, ops=ops, seed=seed, epoch=epoch, colours=self.colours)
        return normalise(images, self.run.normalizer), self.labels[indices]


def copied_ahead(loaded: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Each of `loaded` on a GPU, the next one copied while this one is worked on."""
    stream, before = torch.cuda.Stream(device), None
    for images in loaded:
        with torch.cuda.stream(stream):
            copy = images.pin_memory().to(device, non_blocking=True)
            copied = stream.record_event()
        if before is not None:
            yield arrived(*before)
        before = copy, copied
    if before is not None:
        yield arrived(*before)


def arrived(images: Tensor, copied: torch.cuda.Event) -> Tensor:
    current = torch.cuda.current_stream(images.device)
    current.wait_event(copied)
    images.record_stream(current)
    return images
