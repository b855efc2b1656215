"""Feed: the batches of an epoch on the device: read, augmented, normalised, mixed and shared among processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.augment import Colours, augment, crops_of, drawn_mixes, mix, order
from ..data.loading import fetched
from ..data.normalise import normalise
from ..data.pixels import recolour
from ..data.resample import SUPPORT, cut_and_scale
from ..data.types import MemorySplit, Split
from ..preprocess import Preprocess
from ..recipe import CROPS, MIXES, Recipe, operation
from ..runs.folder import Run
from .job import Job

During = Callable[[], AbstractContextManager[None]]
RESIDENT_SHARE = 0.25  # of a GPU's free memory, at most, for a training set that is kept there


class Batch(NamedTuple):
    """What a step is told of a global batch of `size` images, on the device; or of this process's share of it."""

    size: int
    indices: Tensor  # int64 (n,) in the training split
    epoch: Tensor  # int64 ()
    images: Tensor | None = None  # uint8 (n, C, H, W); None if they are resident
    boxes: Tensor | None = None  # int64 (n, 4): the part of each resident image that is scaled to H x W
    partners: Tensor | None = None  # int64 (n,): the position of the image that each is mixed with
    shares: Tensor | None = None  # float64 (n,): what each keeps of itself


class Ready(NamedTuple):
    """This process's share of a global batch, as its network sees it."""

    indices: Tensor  # int64 (n,) in the training split
    labels: Tensor  # int64 (n,)
    x: Tensor  # float32 (n, C, H, W)
    target: Tensor  # labels, or shares of classes (n, classes) where images are mixed


class Feed:
    """`for batch in feed.epoch(epoch)`: every epoch in a new order; `prepared`: augmented by (seed, epoch, index).

    A resident training set is kept on the GPU as uint8. All work after reading is done on the device, and nothing waits
    for it.
    """

    def __init__(self, job: Job, run: Run):
        self.job, self.run = job, run
        self.labels = job.data.train.labels.to(job.device)
        self.colours = Colours.from_json(run.record.colours)
        self.mixed = has(job.recipe, MIXES)  # mixing needs the whole global batch
        self.resident = self.on_device() if job.execution.resident else None

    def on_device(self) -> Tensor:
        """The training set on the GPU, uint8: (N, C, H, W), or of its own size where random crops will be taken."""
        split, preprocess = self.job.data.train, self.run.preprocess
        if not has(self.job.recipe, CROPS):
            return split.fetch(torch.arange(len(split)), preprocess).to(self.job.device)
        assert isinstance(split, MemorySplit), split
        images = recolour(split.images, preprocess.input[0])
        return (images.flip(1) if preprocess.order == "BGR" else images).to(self.job.device)

    def epoch(self, epoch: int, start: int = 0, during: During = nullcontext) -> Iterator[Batch]:
        """The batches of an epoch (from 0) from step `start` on, each read within `during()`."""
        job = self.job
        images = order(len(job.data.train), seed=job.seed, epoch=epoch)
        batches, there = (at.split(job.recipe.batch)[start : job.steps] for at in (images, self.copied(images)))
        mine, there = (of if self.mixed else tuple(map(job.world.share, of)) for of in (batches, there))
        now = torch.full((), epoch, device=job.device)
        loaded = self.images(mine, epoch)
        for batch, indices, at in zip(batches, mine, there):
            with during():  # a file that one process cannot read stops all of them, before the step
                pixels, drawn = job.world.together(lambda: (next(loaded), self.drawn(indices, epoch)))  # noqa: B023
            yield Batch(len(batch), at, now, pixels, *drawn)

    def batch(self, epoch: int, step: int) -> Batch:
        """One batch of an epoch, once more."""
        return next(self.epoch(epoch, step))

    def images(self, batches: Sequence[Tensor], epoch: int) -> Iterator[Tensor | None]:
        """The images of each of `batches` (indices) on the device, uint8 (n, C, H, W); None where they are resident."""
        job, preprocess, device = self.job, self.run.preprocess, self.job.device
        if self.resident is not None:
            return (None for _ in batches)
        crops = crops_of(job.recipe.augment, preprocess.input[1:], seed=job.seed, epoch=epoch)
        loaded = fetched(job.data.train, batches, preprocess, crops, workers=job.execution.workers)
        return copied_ahead(loaded, device) if device.type == "cuda" else (images.to(device) for images in loaded)

    def drawn(self, indices: Tensor, epoch: int) -> tuple[Tensor | None, ...]:
        """What is drawn on the CPU, on the device: boxes, partners and shares."""
        job, boxes = self.job, None
        crops = crops_of(job.recipe.augment, self.run.preprocess.input[1:], seed=job.seed, epoch=epoch)
        if crops and self.resident is not None:
            boxes = crops.drawn(indices, *self.resident.shape[2:])
        mixes = drawn_mixes(indices, ops=job.recipe.augment, seed=job.seed, epoch=epoch)
        return tuple(t if t is None else self.copied(t) for t in (boxes, *(mixes or (None, None))))

    def copied(self, values: Tensor) -> Tensor:
        """On the device, without waiting for it."""
        if self.job.device.type != "cuda":
            return values
        return values.pin_memory().to(self.job.device, non_blocking=True)

    def prepared(self, batch: Batch) -> Ready:
        """Augmented, normalised, mixed and shared out; from tensors on the device to tensors on the device."""
        job, indices, ops = self.job, batch.indices, self.job.recipe.augment
        seed, epoch = job.seed, batch.epoch
        images = batch.images
        if images is None:
            assert self.resident is not None
            images = self.resident.index_select(0, indices)
        if batch.boxes is not None:
            preprocess = self.run.preprocess
            images = cut_and_scale(images, batch.boxes, preprocess.input[1:], preprocess.interpolation)
        images = augment(images, indices, ops=ops, seed=seed, epoch=epoch, colours=self.colours)
        x, labels = normalise(images, self.run.normalizer), self.labels[indices]
        if batch.partners is None or batch.shares is None:
            return Ready(indices, labels, x, labels)
        drawn, classes = (batch.partners, batch.shares), len(job.data.classes)
        x, target = mix(x, labels, indices, drawn, op=ops[-1], classes=classes, seed=seed, epoch=epoch)
        return Ready(*map(job.world.share, (indices, labels, x, target)))


def has(recipe: Recipe, kinds: Sequence[str]) -> bool:
    """Whether the recipe has an augmentation of these kinds."""
    return any(operation(op)[0] in kinds for op in recipe.augment)


def may_reside(split: Split, preprocess: Preprocess, recipe: Recipe, device: torch.device) -> bool:
    """Whether a training set is in memory, and leaves enough of a GPU's, to be kept, cropped and scaled there."""
    if device.type != "cuda" or not isinstance(split, MemorySplit):
        return False
    image = preprocess.input
    if has(recipe, CROPS):
        if preprocess.interpolation not in SUPPORT:
            return False
        image = (image[0], *split.images.shape[2:])
    return len(split) * math.prod(image) <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


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
