"""The training progress: everything in a checkpoint that is not a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..checked import fields_of
from ..recipe import Recipe
from .schedule import PlateauState, warmed_up


@dataclass
class RunningMeans:
    """Running totals over training images: how many, their mean loss, and how many were classified correctly.

    Each image counts as the network classified it in its training step.
    """

    images: int = 0
    loss: float = 0.0
    hits: int = 0

    def add(self, images: int, loss: float, hits: int) -> None:
        self.images, self.loss, self.hits = self.images + images, self.loss + loss * images, self.hits + hits

    def means(self) -> dict[str, float]:
        return {"loss": self.loss / self.images, "top1": self.hits / self.images}


@dataclass
class Position:
    epoch: int = 0  # epochs completed, including their evaluation
    step: int = 0  # steps completed in the current epoch
    seconds: float = 0.0  # duration of those steps
    sums: RunningMeans = field(default_factory=RunningMeans)  # over those steps
    since_log: RunningMeans = field(default_factory=RunningMeans)  # since the last line of the log
    lr: float = 0.0  # of the last step
    warm: bool = False  # whether the training error has become low enough to end the warm-up
    best_top1: float = -1.0  # on val, where there is one
    best_epoch: int = 0
    plateau: PlateauState = field(default_factory=PlateauState)

    def end_epoch(self, top1: float, recipe: Recipe) -> None:
        """Moves on to the next epoch; `top1` is the accuracy on the held-out images."""
        self.plateau = self.plateau.after(recipe.schedule, held_out=top1, train=self.sums.means()["top1"])
        self.epoch, self.step, self.seconds, self.sums, self.since_log = (
            self.epoch + 1,
            0,
            0.0,
            RunningMeans(),
            RunningMeans(),
        )

    def take_since_log(self, recipe: Recipe) -> dict[str, float]:
        """The means since the last call, which may end the warm-up."""
        means, self.since_log = self.since_log.means(), RunningMeans()
        self.warm = self.warm or warmed_up(recipe, error=1 - means["top1"])
        return means

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Position:
        """The inverse of `dataclasses.asdict`. Raises KeyError or TypeError for another record."""
        parts = {name: RunningMeans(**fields_of(RunningMeans, record[name])) for name in ("sums", "since_log")}
        plateau = PlateauState(**fields_of(PlateauState, record["plateau"]))
        return cls(**fields_of(cls, {**record, **parts, "plateau": plateau}))
