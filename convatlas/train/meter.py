"""Meter: loss, hits and faults of the steps since the last reading, kept on the device so that no step waits."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ..machine.processes import World
from .divergence import not_finite_in
from .state import Position


class Meter:
    """`sums` and `add` each step, `read` when a line is due: only reading synchronises with the device.

    `bad`, float32 (), becomes 1 with the first step whose loss or gradient is not finite on any process, and keeps the
    optimizer from changing anything from then on (see optimizers.py). Sums are taken over all processes.
    """

    def __init__(self, at: Position, world: World, bad: Tensor):
        self.at, self.world, self.bad = at, world, bad
        self.pending: list[Tensor] = []  # of each step, float64 (4,): images, sum of losses, hits, whether it is bad
        self.since = time.perf_counter()

    def start(self) -> None:
        """Starts the clock of an epoch."""
        self.since = time.perf_counter()

    def sums(self, loss: Tensor, logits: Tensor, labels: Tensor, gradients: Sequence[Tensor]) -> Tensor:
        """What `add` takes, from a step's mean loss (), its logits (n, classes), labels (n,) and gradients."""
        images = torch.full((), len(labels), dtype=torch.float64, device=loss.device)
        hits, bad = (logits.argmax(1) == labels).sum(), not_finite_in([loss, *gradients])
        step = torch.stack([images, loss * images, hits.double(), bad.double()])
        step = self.world.sum(step)
        self.bad.copy_(self.bad.maximum(step[3] > 0))
        return step

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
        for images, loss, hits, fault in steps:
            if fault:
                return losses, len(losses)
            losses.append(loss / images)
            for sums in (self.at.sums, self.at.since_log):
                sums.add(int(images), loss / images, int(hits))
        return losses, None

    def add_time(self) -> None:
        """Adds the time since the last call."""
        now = time.perf_counter()
        self.at.seconds += now - self.since
        self.since = now
