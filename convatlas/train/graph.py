"""CUDA graphs: the passes of a batch captured once and replayed, so that their launches cost the host nothing.

https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ..layers import ConvNet
from .events import note
from .passes import Passes

WARM_UP = 3  # batches that run as usual before the capture, as torch asks for


class Capture(Protocol):
    """How work on the device is captured; tests have one for a CPU."""

    def warm_up(self, work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Runs the work as usual, before it is captured."""
        ...

    def __call__(self, work: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
        """Captures the work without computing; returns what computes it, and the tensors that then hold its results."""
        ...


class GraphedPasses:
    """Called as `Passes` is, with the same results, in tensors that the next call overwrites.

    Batches of another size than the first, such as an epoch's last, run as usual. Where torch cannot capture, all do,
    and `on_event` gets a note.
    """

    def __init__(self, net: ConvNet, passes: Passes, capture: Capture | None = None):
        self.passes, self.capture = passes, capture or OnSideStream()
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        self.seen = 0  # batches of the first one's size
        self.x: Tensor | None = None
        self.target: Tensor | None = None
        self.replay: Callable[[], None] | None = None
        self.outputs: list[Tensor] = []  # loss, logits, gradients
        self.given_up = False

    def __call__(self, x: Tensor, target: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        if self.x is None or self.target is None:
            self.x, self.target = torch.empty_like(x), torch.empty_like(target)
        if self.given_up or x.shape != self.x.shape:
            return self.passes(x, target, batch)
        self.seen += 1
        if self.seen <= WARM_UP:
            return self.capture.warm_up(lambda: self.passes(x, target, batch))
        self.x.copy_(x)
        self.target.copy_(target)
        if self.replay is None and not self.captured(batch):
            return self.passes(x, target, batch)
        assert self.replay is not None
        self.replay()
        loss, logits, *gradients = self.outputs
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss, logits

    def captured(self, batch: int) -> bool:
        """Captures the passes, which computes nothing."""

        def work() -> list[Tensor]:
            for p in self.parameters:
                p.grad = None
            loss, logits = self.passes.all_parts(self.x, self.target, batch)  # type: ignore[arg-type]
            return [loss, logits, *(p.grad for p in self.parameters if p.grad is not None)]

        try:
            self.replay, self.outputs = self.capture(work)
        except RuntimeError as error:  # of an operation that waits for the device, or for want of memory
            self.given_up = True
            reason = str(error).splitlines()[0]
            self.passes.on_event(note(f"no CUDA graph can be captured ({reason}); training goes on without one"))
        for p in self.parameters:
            p.grad = None
        return not self.given_up


class OnSideStream:
    """Captures by torch.cuda.graph on a stream of its own, on which the batches before must have run as well."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    def warm_up(self, work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            results = work()
        current.wait_stream(self.stream)
        return results

    def __call__(self, work: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            outputs = work()
        return graph.replay, outputs
