"""Learning rates as pure functions of the recipe and of time, in epochs (fractional within an epoch)."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from math import cos, floor, pi

from ..recipe import (
    ConstantWarmup,
    Cosine,
    Exponential,
    LinearWarmup,
    Plateau,
    Poly,
    Recipe,
    Schedule,
    Step,
)


def rate(recipe: Recipe, epoch: float, drops: int = 0, steps: int = 1, warm: bool = True) -> float:
    """The learning rate of the step that starts `epoch` epochs, of `steps` steps each, into training.

    `drops` is the number that PlateauState counts; `warm` is whether the training error has fallen below the warm-up's
    `error`. Warm-up replaces the beginning of the schedule, which counts from the start of training all the same;
    cosine and poly decay over the epochs that remain after the warm-up.
    """
    lr = recipe.optimizer.lr
    over = warmup_epochs(recipe, steps)
    match recipe.warmup:
        case LinearWarmup(lr=first) if epoch < over:
            return first + (lr - first) * epoch / over
        case ConstantWarmup(lr=first, error=error) if epoch < over or (error and not warm):
            return first
    match recipe.schedule:
        case Step(milestones, gamma):
            return lr * gamma ** bisect_right(milestones, epoch)
        case Plateau(gamma=gamma):
            return lr * gamma**drops
        case Exponential(gamma, every, staircase):
            times = epoch / every
            return lr * gamma ** (floor(times + 1e-9) if staircase else times)
        case Cosine(end):
            done = (epoch - over) / (recipe.epochs - over)
            return end + (lr - end) * (1 + cos(pi * done)) / 2
        case Poly(power, end):
            done = (epoch - over) / (recipe.epochs - over)
            return end + (lr - end) * (1 - done) ** power
        case _:
            return lr


def warmup_epochs(recipe: Recipe, steps: int) -> float:
    """The length of the warm-up in epochs of `steps` steps; 0 without one, or if a training error ends it."""
    if recipe.warmup is None:
        return 0.0
    return recipe.warmup.epochs or (recipe.warmup.steps or 0) / steps


def warmed_up(recipe: Recipe, error: float) -> bool:
    """Whether this training error, in [0, 1], is low enough to end a warm-up that waits for one."""
    match recipe.warmup:
        case ConstantWarmup(error=float(bound)):
            return error < bound
    return False


@dataclass(frozen=True)
class PlateauState:
    """How often the learning rate has dropped, and how many epochs have passed without a better top-1 accuracy."""

    best: float = -1.0
    stale: int = 0
    drops: int = 0

    def after(self, schedule: Schedule, *, held_out: float, train: float) -> PlateauState:
        """The state after one more epoch, given its top-1 accuracies."""
        if not isinstance(schedule, Plateau):
            return self
        top1 = train if schedule.watch == "train" else held_out
        if top1 > self.best + schedule.threshold:
            return replace(self, best=top1, stale=0)
        if self.stale + 1 < schedule.patience or self.drops == schedule.drops:
            return replace(self, stale=self.stale + 1)
        return replace(self, stale=0, drops=self.drops + 1)
