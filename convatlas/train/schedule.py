"""Learning rates: pure functions of the recipe and of the time, in epochs (a fraction within an epoch)."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from math import cos, floor, pi

from ..recipe import Recipe


def rate(recipe: Recipe, epoch: float, drops: int = 0, steps: int = 1, warm: bool = True) -> float:
    """The rate of the step that begins `epoch` epochs of `steps` steps after the start; `drops` is what Plateau counts.
    `warm` is whether the training error has been below `warmup_error`.

    Warm-up takes the place of the first epochs of the schedule, whose times are counted from the start; those that
    fall all the way (cosine, poly) do so over what is left after it.
    """
    over = recipe.warmup_epochs + recipe.warmup_steps / steps
    if recipe.warmup_error and not warm:
        return recipe.warmup_lr
    if epoch < over:
        if recipe.warmup == "constant":
            return recipe.warmup_lr
        return recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * epoch / over
    match recipe.schedule:
        case "step":
            return recipe.lr * recipe.gamma ** bisect_right(recipe.milestones, epoch)
        case "plateau":
            return recipe.lr * recipe.gamma**drops
        case "exponential":
            times = epoch / recipe.every
            return recipe.lr * recipe.gamma ** (floor(times + 1e-9) if recipe.staircase else times)
        case "cosine" | "poly":
            done = (epoch - over) / (recipe.epochs - over)
            half_period = (1 + cos(pi * done)) / 2  # Loshchilov and Hutter (2016), once
            left = half_period if recipe.schedule == "cosine" else (1 - done) ** recipe.power
            return recipe.lr_end + (recipe.lr - recipe.lr_end) * left
        case _:
            return recipe.lr


@dataclass(frozen=True)
class Plateau:
    """How often the rate has dropped so far, and how many epochs have passed without a better top-1."""

    best: float = -1.0
    stale: int = 0
    drops: int = 0

    def after(self, top1: float, recipe: Recipe) -> Plateau:
        """The state after one more epoch, which ended with that top-1."""
        if top1 > self.best + recipe.threshold:
            return replace(self, best=top1, stale=0)
        if self.stale + 1 < recipe.patience or self.drops == recipe.drops:
            return replace(self, stale=self.stale + 1)
        return replace(self, stale=0, drops=self.drops + 1)
