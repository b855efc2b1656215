"""CUDA graphs: work of equal shape captured once and replayed, so that its launches cost the host nothing.

https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ..layers import ConvNet
from .events import OnEvent, note
from .passes import Passes

WARM_UP = 3  # calls that run as usual before the capture, as torch asks for
Work = Callable[..., tuple[Tensor, ...]]


class Capture(Protocol):
    """How work on the device is captured; tests have one for a CPU."""

    def warm_up(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Runs the work as usual, before it is captured."""
        ...

    def __call__(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        """Captures the work without computing; returns what computes it, and the tensors that then hold its results."""
        ...


class Graphed:
    """`work`, from tensors to tensors, with results that the next call overwrites.

    Calls with other shapes than the first, such as for an epoch's last batch, run as usual. Where torch cannot capture
    the work, all do, and `on_event` gets a note.
    """

    def __init__(self, what: str, work: Work, on_event: OnEvent, capture: Capture):
        self.what, self.work, self.on_event, self.capture = what, work, on_event, capture
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()
        self.calls = 0  # with the shapes of the first
        self.replay: Callable[[], None] | None = None
        self.given_up = False

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        self.inputs = self.inputs or tuple(map(torch.empty_like, tensors))
        if self.given_up or any(t.shape != mine.shape for t, mine in zip(tensors, self.inputs, strict=True)):
            return self.work(*tensors)
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.capture.warm_up(lambda: self.work(*tensors))
        for mine, tensor in zip(self.inputs, tensors, strict=True):
            mine.copy_(tensor)
        if self.replay is None:
            try:
                self.replay, self.outputs = self.capture(lambda: self.work(*self.inputs))
            except RuntimeError as error:  # of an operation that waits for the device, or for want of memory
                self.given_up = True
                reason = str(error).splitlines()[0]
                self.on_event(note(f"{self.what} cannot be captured as a CUDA graph and run as usual ({reason})"))
                return self.work(*tensors)
        self.replay()
        return self.outputs


class GraphedPasses:
    """Called as `Passes` is on one GPU, with the same results: loss, logits, and gradients in the parameters."""

    def __init__(self, net: ConvNet, passes: Passes, capture: Capture):
        self.passes = passes
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        self.graphed = Graphed("the passes", self.work, passes.on_event, capture)

    def __call__(self, x: Tensor, target: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        loss, logits, *gradients = self.graphed(x, target)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss, logits

    def work(self, x: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        for p in self.parameters:
            p.grad = None
        loss, logits = self.passes(x, target, len(x))
        return loss, logits, *(p.grad for p in self.parameters if p.grad is not None)


class OnSideStream:
    """Captures by torch.cuda.graph on a stream of its own, on which the calls before must have run as well."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    def warm_up(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            results = work()
        current.wait_stream(self.stream)
        return results

    def __call__(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            outputs = work()
        return graph.replay, outputs
