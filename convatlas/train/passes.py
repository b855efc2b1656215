"""Forward and backward pass of one batch: whole, accumulated over parts, with checkpointed segments, distributed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import UserError
from ..layers import ConvNet
from ..recipe import Recipe
from .events import note
from .job import Job
from .loss import class_weights, loss_of
from .segments import cut, recomputed


class Passes:
    """`passes(x, target)` leaves the gradients of the whole batch in the parameters, averaged over all processes.

    Returns the mean loss of this process's images and their logits, both detached. When a GPU runs out of memory, the
    batch is repeated in parts of half the size, as are later batches, and `on_event` gets a note. Raises UserError if
    a single image does not fit, and in distributed training, where the other processes could not follow.
    """

    def __init__(self, net: ConvNet, job: Job):
        recipe, execution, device, world = job.recipe, job.execution, job.device, job.world
        self.size, self.world, self.on_event = execution.micro_batch, world, job.on_event
        in_bfloat16 = execution.precision == "bfloat16"
        self.autocast = torch.autocast(device.type, torch.bfloat16) if in_bfloat16 else nullcontext()
        if execution.sync_bn:
            nn.SyncBatchNorm.convert_sync_batchnorm(net)  # in place
        run = recomputed(cut(net, execution.segments, net.variant)) if execution.segments else net
        weights = (
            class_weights(job.data.train.labels.cpu(), len(job.data.classes)).to(device) if recipe.balance else None
        )
        learner: nn.Module = Learner(net, recipe, run, weights)
        if execution.compile:
            learner.compile()
        elif device.type == "cpu":
            for p in net.parameters():
                if p.requires_grad:
                    p.register_post_accumulate_grad_hook(lambda _: None)  # lets Python handle signals during backward
        if world.size > 1:
            ids = [device] if device.type == "cuda" else None
            unused = net.has_unused_parameters or (net.has_aux and not recipe.aux_weight)
            learner = DistributedDataParallel(
                learner, device_ids=ids, find_unused_parameters=unused, gradient_as_bucket_view=True
            )
        self.learner, self.strides = learner, execution.strides

    def __call__(self, x: Tensor, target: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """`x` (n, C, H, W) and `target` are this process's share of a global batch of `batch` images."""
        while True:
            try:
                return self.all_parts(x, target, batch)
            except torch.OutOfMemoryError as error:
                if self.world.size > 1 or self.size == 1:
                    load = "this process's share of a batch" if self.size > 1 else "one image"
                    raise UserError(
                        f"out of memory on {x.device} even with {load}", "give a smaller --micro-batch, or --segments"
                    ) from error
            self.size = -(-min(self.size, len(x)) // 2)
            for p in self.learner.parameters():
                p.grad = None
            torch.cuda.empty_cache() if x.is_cuda else None
            self.on_event(note(f"out of memory: gradients are now accumulated over passes of {self.size} images"))

    def all_parts(self, x: Tensor, target: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        x = x.contiguous(memory_format=self.strides)
        parts = -(-len(x) // self.size)
        if parts == 1:
            return self.part(x, target, batch)
        loss, logits = x.new_zeros(()), []
        for i, (images, targets) in enumerate(zip(x.tensor_split(parts), target.tensor_split(parts), strict=True)):
            with self.alone(i + 1 < parts):
                mean, out = self.part(images, targets, batch)
            loss += mean * (len(images) / len(x))
            logits.append(out)
        return loss, torch.cat(logits)

    def part(self, images: Tensor, targets: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """The passes of images that go through the network together."""
        with self.autocast:
            mean, logits = self.learner(images, targets)
        share = len(images) * self.world.size / batch  # DDP averages over processes
        (mean if share == 1 else mean * share).backward()
        return mean.detach(), logits.detach()

    def alone(self, more: bool) -> AbstractContextManager[None]:
        """Postpones the exchange of gradients to the last part."""
        return self.learner.no_sync() if more and isinstance(self.learner, DistributedDataParallel) else nullcontext()


class Learner(nn.Module):
    """A network and its loss as one module, for DistributedDataParallel and torch.compile to wrap."""

    def __init__(self, net: ConvNet, recipe: Recipe, run: Callable[[Tensor], Tensor], weights: Tensor | None):
        super().__init__()
        self.weights = weights
        self.net, self.recipe, self.run = net, recipe, run  # run: the network, or its forward pass in segments

    def forward(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return loss_of(self.run, x, target, self.recipe, self.weights)
