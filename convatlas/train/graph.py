"""CUDA graphs: work of equal shape captured once and replayed, so that its launches cost the host nothing.

https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import first_line
from .events import OnEvent, note
from .feed import During, Feed
from .meter import Meter
from .passes import Passes
from .step import Outcome, Step
from .train_state import TrainState

WARM_UP = 3  # calls that run as usual before the capture, as torch asks for
DISTRIBUTED_WARM_UP = 11  # with DistributedDataParallel, which measures its first ten
Work = Callable[..., tuple[Tensor, ...]]


class Capture(Protocol):
    """How work on the device is captured; tests have one for a CPU."""

    def aside(self) -> AbstractContextManager[Any]:
        """Where what takes part in the work has to be made."""
        ...

    def warm_up(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Runs the work as usual, before it is captured."""
        ...

    def __call__(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        """Captures the work without computing; returns what computes it, and the tensors that then hold its results."""
        ...


class Graphed:
    """`work`, with results, all tensors, that the next call overwrites.

    A call runs as usual where a tensor has another shape than in the first call, as in an epoch's last batch, or
    anything else another value; so do all calls where torch cannot capture the work, and `on_event` gets a note.
    """

    def __init__(self, what: str, work: Work, on_event: OnEvent, capture: Capture, warm_up: int = WARM_UP):
        self.what, self.work, self.on_event, self.capture, self.warm_up = what, work, on_event, capture, warm_up
        self.first: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: tuple[Tensor, ...] = ()
        self.calls = 0  # like the first
        self.replay: Callable[[], None] | None = None
        self.given_up = False

    def __call__(self, *arguments: Any) -> tuple[Tensor, ...]:
        alike = [a.shape if isinstance(a, Tensor) else a for a in arguments]
        self.first = self.first or alike
        if self.given_up or alike != self.first:
            return self.work(*arguments)
        self.calls += 1
        if self.calls <= self.warm_up:
            return self.capture.warm_up(lambda: self.work(*arguments))
        if self.replay is None:
            self.inputs = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
            try:
                self.replay, self.outputs = self.capture(lambda: self.work(*self.inputs))
            except RuntimeError as error:  # of an operation that waits for the device, or for want of memory
                self.given_up = True
                why = first_line(error)
                self.on_event(note(f"{self.what} cannot be captured as a CUDA graph and runs as usual ({why})"))
                return self.work(*arguments)
        for mine, argument in zip(self.inputs, arguments, strict=True):
            if isinstance(argument, Tensor):
                mine.copy_(argument)
        self.replay()
        return self.outputs


class GraphedStep:
    """Called as `Step` is, with the same results: weights, statistics, and gradients in the parameters."""

    def __init__(self, step: Step, capture: Capture):
        job = step.state.job
        self.step, self.trained = step, [p for p in step.state.parameters if p.requires_grad]
        warm_up = WARM_UP if job.world.size == 1 else DISTRIBUTED_WARM_UP
        self.graphed = Graphed("the step", self.work, job.on_event, capture, warm_up)

    def __call__(self, *batch: Any) -> Outcome:
        results = self.graphed(*batch)
        for parameter, gradient in zip(self.trained, results[len(Outcome._fields) :], strict=True):
            parameter.grad = gradient
        return Outcome(*results[: len(Outcome._fields)])

    def work(self, *batch: Any) -> tuple[Tensor, ...]:
        state = self.step.state
        state.forget_gradients()  # a gradient has its place among the results
        outcome = self.step(*batch)
        self.trained = [p for p in state.parameters if p.grad is not None]
        return *outcome, *state.gradients()


class OnSideStream:
    """Captures by torch.cuda.graph on a stream of its own, on which the calls before must have run as well."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    def aside(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self.stream)

    def warm_up(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with self.aside():
            results = work()
        current.wait_stream(self.stream)
        return results

    def __call__(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            outputs = work()
        return graph.replay, outputs


def step_of(state: TrainState, feed: Feed, meter: Meter, during: During) -> tuple[Step | GraphedStep, Passes]:
    """A step, replayed as a CUDA graph where that was decided; and its passes, for a batch that has to be run again."""
    job = state.job
    capture = OnSideStream() if job.execution.graph else None
    with capture.aside() if capture else nullcontext():
        passes = Passes(state.net, job)
    step = Step(state, feed, passes, meter, during)
    return GraphedStep(step, capture) if capture else step, passes
