"""Where training stands: all that a checkpoint holds besides tensors."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..machine.processes import World
from ..recipe import Recipe
from .schedule import PlateauState, warmed_up


@dataclass
class RunningMeans:
    """Over some training images: how many, their losses, and how many were right as the network then was."""

    images: int = 0
    loss: float = 0.0
    hits: int = 0

    def add(self, images: int, loss: float, hits: int) -> None:
        self.images, self.loss, self.hits = self.images + images, self.loss + loss * images, self.hits + hits

    def means(self) -> dict[str, float]:
        return {"loss": self.loss / self.images, "top1": self.hits / self.images}


@dataclass
class Position:
    epoch: int = 0  # whole epochs done, their test included
    step: int = 0  # steps done since
    seconds: float = 0.0  # that those steps took
    sums: RunningMeans = field(default_factory=RunningMeans)  # of those steps
    since_log: RunningMeans = field(default_factory=RunningMeans)  # since the last line of the log
    lr: float = 0.0  # of the last step
    warm: bool = False  # whether the training error has ended a warm-up that waits for it
    best_top1: float = -1.0  # on the val images, where there are any
    best_epoch: int = 0
    plateau: PlateauState = field(default_factory=PlateauState)

    def end_epoch(self, top1: float, recipe: Recipe) -> None:
        """`top1` is that of the held-out images."""
        self.plateau = self.plateau.after(recipe.schedule, held_out=top1, train=self.sums.means()["top1"])
        self.epoch, self.step, self.seconds, self.sums, self.since_log = (
            self.epoch + 1,
            0,
            0.0,
            RunningMeans(),
            RunningMeans(),
        )

    def take_since_log(self, recipe: Recipe) -> dict[str, float]:
        """The means since the last time, which may end the warm-up."""
        means, self.since_log = self.since_log.means(), RunningMeans()
        self.warm = self.warm or warmed_up(recipe, error=1 - means["top1"])
        return means

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Position:
        """The state that `dataclasses.asdict` made the record of."""
        parts = {name: RunningMeans(**record[name]) for name in ("sums", "since_log")}
        return cls(**{**record, **parts, "plateau": PlateauState(**record["plateau"])})


class Meter:
    """Adds an epoch's steps to the state; keeps losses on the device until they are read, which waits for it.

    What is added is the sum over all processes, so that the state is the same in each.
    """

    def __init__(self, state: Position, world: World):
        self.state, self.world, self.since = state, world, time.perf_counter()
        self.pending: list[tuple[int, Tensor, Tensor]] = []  # images, loss, hits
        self.last = math.nan  # the loss of the batch read last

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.pending.append((len(labels), loss.detach(), (logits.detach().argmax(1) == labels).sum()))

    def read(self) -> str | None:
        """Adds what is pending. What to say of a loss that is not finite; None: all are."""
        sizes = torch.tensor([n for n, _, _ in self.pending], dtype=torch.float64)
        losses = torch.stack([loss for _, loss, _ in self.pending]).double().cpu()
        hits = torch.stack([right for _, _, right in self.pending]).double().cpu()
        self.pending.clear()
        images, lost, right = self.world.sum(torch.stack([sizes, losses * sizes, hits])).tolist()
        self.add_time()
        for n, loss, hit in zip(images, lost, right, strict=True):
            if not math.isfinite(loss):
                return f"the loss is {loss}"
            self.last = loss / n
            for sums in (self.state.sums, self.state.since_log):
                sums.add(int(n), loss / n, int(hit))
        return None

    def add_time(self) -> None:
        """Adds the time since the last look."""
        now = time.perf_counter()
        self.state.seconds += now - self.since
        self.since = now
