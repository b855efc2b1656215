"""The training progress: everything in a checkpoint that is not a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..checked import fields_of
from ..recipe import Recipe
from .schedule import PlateauState, warmed_up


@dataclass
class Norms:
    """Norms of a gradient, one a step: how many, their sum, and the largest."""

    steps: int = 0
    sum: float = 0.0
    largest: float = 0.0

    def add(self, norm: float) -> None:
        self.steps, self.sum, self.largest = self.steps + 1, self.sum + norm, max(self.largest, norm)


@dataclass
class RunningMeans:
    """Running totals over training images: how many, their mean loss, and how many were classified correctly.

    Each image counts as the network classified it in its training step. `gradient` has the norms of each stage.
    """

    images: int = 0
    loss: float = 0.0
    hits: int = 0
    gradient: dict[str, Norms] = field(default_factory=dict)

    def add(self, images: int, loss: float, hits: int, norms: Mapping[str, float]) -> None:
        self.images, self.loss, self.hits = self.images + images, self.loss + loss * images, self.hits + hits
        for stage, norm in norms.items():
            self.gradient.setdefault(stage, Norms()).add(norm)

    def means(self) -> dict[str, float]:
        return {"loss": self.loss / self.images, "top1": self.hits / self.images}

    def norms(self) -> dict[str, dict[str, float]]:
        """The mean and the largest norm of each stage."""
        return {stage: {"mean": of.sum / of.steps, "max": of.largest} for stage, of in self.gradient.items()}

    @classmethod
    def from_json(cls, record: Any) -> RunningMeans:
        """The inverse of `dataclasses.asdict`. Raises TypeError for another record."""
        if isinstance(record, dict) and isinstance(record.get("gradient"), dict):
            stages = {stage: Norms(**fields_of(Norms, of)) for stage, of in record["gradient"].items()}
            record = {**record, "gradient": stages}
        return cls(**fields_of(cls, record))


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

    def take_since_log(self, recipe: Recipe) -> dict[str, Any]:
        """The means since the last call, which may end the warm-up."""
        since, self.since_log = self.since_log, RunningMeans()
        self.warm = self.warm or warmed_up(recipe, error=1 - since.means()["top1"])
        return {**since.means(), "gradient": since.norms()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Position:
        """The inverse of `dataclasses.asdict`. Raises KeyError or TypeError for another record."""
        parts = {name: RunningMeans.from_json(record[name]) for name in ("sums", "since_log")}
        plateau = PlateauState(**fields_of(PlateauState, record["plateau"]))
        return cls(**fields_of(cls, {**record, **parts, "plateau": plateau}))
