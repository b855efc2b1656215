"""Learning rates: pure functions of the recipe and of the time, in epochs (a fraction within an epoch)."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from math import cos, pi

from ..recipe import Recipe


def rate(recipe: Recipe, epoch: float, drops: int = 0) -> float:
    """The rate of the step that begins `epoch` epochs after the start; `drops` is what Plateau counts."""
    if epoch < recipe.warmup_epochs:
        if recipe.warmup == "constant":
            return recipe.warmup_lr
        return recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * epoch / recipe.warmup_epochs
    match recipe.schedule:
        case "step":
            return recipe.lr * recipe.gamma ** bisect_right(recipe.milestones, epoch)
        case "plateau":
            return recipe.lr * recipe.gamma**drops
        case "cosine":  # Loshchilov and Hutter (2016), one period, to zero
            done = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
            return recipe.lr * (1 + cos(pi * done)) / 2
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
        if top1 > self.best:
            return replace(self, best=top1, stale=0)
        if self.stale + 1 < recipe.patience or self.drops == recipe.drops:
            return replace(self, stale=self.stale + 1)
        return replace(self, stale=0, drops=self.drops + 1)
