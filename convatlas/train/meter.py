"""Meter: what the steps since the last reading came to, kept on the device so that no step waits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..machine.processes import World
from . import divergence
from .divergence import not_finite_in
from .state import Position

LARGEST = torch.finfo(torch.float32).max


class Meter:
    """`sums` and `add` each step, `read` when a line is due: only reading synchronises with the device.

    `bad`, float32 (), becomes 1 with the first step whose loss or gradient is not finite on any process, and keeps the
    optimizer from changing anything from then on (see optimizers.py). Sums are taken over all processes.
    `stages` are the parameters by stage.
    """

    def __init__(self, at: Position, world: World, bad: Tensor, stages: Mapping[str, Sequence[nn.Parameter]]):
        self.at, self.world, self.bad, self.stages = at, world, bad, stages
        self.pending: list[Tensor] = []  # of each step, as `sums` returns it
        self.since = time.perf_counter()

    def start(self) -> None:
        """Starts the clock of an epoch."""
        self.since = time.perf_counter()

    def sums(self, loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """What `add` takes, from a step's mean loss (), its logits (n, classes), labels (n,), and its gradients, which
        are in the parameters: float64 (4 + stages,), of images, sum of losses, hits, whether it is bad, and norms."""
        gradients = [[p.grad for p in of if p.grad is not None] for of in self.stages.values()]
        images = torch.full((), len(labels), dtype=torch.float64, device=loss.device)
        hits, bad = (logits.argmax(1) == labels).sum(), not_finite_in([loss, *(g for of in gradients for g in of)])
        step = self.world.sum(torch.stack([images, loss * images, hits.double(), bad.double()]))
        self.bad.copy_(self.bad.maximum(step[3] > 0))
        return torch.cat([step, divergence.norms(gradients)])  # every process has the gradients of the whole batch

    def add(self, sums: Tensor) -> None:
        self.pending.append(sums.clone())  # the next replay of a graph overwrites them

    def read(self) -> tuple[list[float], int | None]:
        """Adds the good steps since the last reading to the progress; returns their losses, and which step was bad.

        That is its position among the steps since the last reading, or None.
        """
        steps = torch.stack(self.pending).tolist() if self.pending else []
        self.pending.clear()
        self.add_time()
        losses: list[float] = []
        for images, loss, hits, fault, *norms in steps:
            if fault:
                return losses, len(losses)
            losses.append(loss / images)
            for sums in (self.at.sums, self.at.since_log):
                sums.add(int(images), loss / images, int(hits), self.named(norms))
        return losses, None

    def named(self, norms: Sequence[float]) -> dict[str, float]:
        """By stage, without those that do not learn. One beyond float32, as of a loss that explodes, is its largest."""
        return {
            stage: min(norm, LARGEST)
            for (stage, parameters), norm in zip(self.stages.items(), norms, strict=True)
            if norm or any(p.requires_grad for p in parameters)
        }

    def add_time(self) -> None:
        """Adds the time since the last call."""
        now = time.perf_counter()
        self.at.seconds += now - self.since
        self.since = now
