"""The learning-rate finder: a short training whose rate grows from step to step, and the losses along the way.

Smith (2015), Cyclical Learning Rates for Training Neural Networks, https://arxiv.org/abs/1506.01186, section 3.3.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

from ..catalogue import Shape, Variant
from ..data.types import Data
from ..errors import UserError
from ..recipe import Exponential, Recipe
from .execution import Execution
from .fit import Diverged, fit, steps_in_epoch
from .progress import Event, OnEvent, quiet

WORSE = 3.0  # times the lowest averaged loss: beyond it the search ends
PAST = 0.9  # its share in that average
SMOOTH = 0.8  # and in each direction of the smoothed loss


@dataclass(frozen=True)
class Search:
    """The rates tried, in order, and the loss of the batch that met each: as it was, and smoothed.

    `best` is the rate where the smoothed loss falls fastest on its way to its lowest.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smoothed(self) -> tuple[float, ...]:
        """Averaged forwards and then backwards, since one way alone lags; what is worse than the first as the first."""
        fall = [min(loss, self.losses[0]) for loss in self.losses]  # the explosion at the end is no part of it
        return averaged(averaged(fall, SMOOTH)[::-1], SMOOTH)[::-1]

    @property
    def best(self) -> float:
        smoothed = self.smoothed
        lowest = max(1, smoothed.index(min(smoothed)))  # beyond it, a fall is only back from an explosion
        falls = [a - b for a, b in pairwise(smoothed[: lowest + 1])]  # the rates grow by equal factors
        return self.rates[falls.index(max(falls))]

    def to_json(self) -> dict[str, Any]:
        return {"best": self.best, "rates": self.rates, "losses": self.losses, "smoothed": self.smoothed}


def averaged(losses: Sequence[float], past: float) -> tuple[float, ...]:
    """Each averaged with those before it: exponentially, corrected for the beginning (as Adam's)."""
    mean, found = 0.0, []
    for n, loss in enumerate(losses, start=1):
        mean = past * mean + (1 - past) * loss
        found.append(mean / (1 - past**n))
    return tuple(found)


class Enough(Exception):
    """The search is over."""


def find_rate(
    network: str | Variant,
    data: Data,
    recipe: Recipe,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    seed: int = 0,
    device: str = "auto",
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    input: Shape | None = None,
    on_event: OnEvent = quiet,
) -> Search:
    """Trains by the recipe for at most `steps` steps, the rate growing from `lowest` to `highest` by equal factors.

    It ends earlier when the averaged loss is WORSE times its lowest, or a loss is not finite. Nothing is kept but the
    losses. The other arguments, and errors, are those of `fit`.
    """
    if not 0 < lowest < highest:
        raise UserError(f"rates from {lowest} to {highest} do not rise", "give a lowest above 0 and below the highest")
    if steps < 10:
        raise UserError(f"{steps} steps show no slope", "give at least 10")
    epochs = steps / steps_in_epoch(len(data.train), recipe.batch)
    rising = replace(
        recipe,
        optimizer=replace(recipe.optimizer, lr=lowest),
        schedule=Exponential(gamma=highest / lowest, every=epochs),
        warmup=None,
        epochs=ceil(epochs),
    )
    losses: list[float] = []

    def watch(event: Event) -> None:
        if event["kind"] != "step":
            return
        losses.append(event["batch_loss"])
        on_event(event | {"step": len(losses), "steps": steps, "epoch": 1, "epochs": 1})
        means = averaged(losses, PAST)
        if len(losses) >= steps or means[-1] > WORSE * min(means):
            raise Enough

    with tempfile.TemporaryDirectory() as folder:
        try:
            fit(
                network,
                data,
                rising,
                out=Path(folder) / "run",
                seed=seed,
                device=device,
                execution=execution,
                input=input,
                on_event=watch,
            )
        except Enough:
            pass
        except Diverged as error:
            if len(losses) < 3:
                raise UserError(
                    f"the loss is not finite at a rate of {lowest} already", "give a smaller one"
                ) from error
    rates = tuple(lowest * (highest / lowest) ** (i / steps) for i in range(len(losses)))
    return Search(rates, tuple(losses))
