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
from .events import Event, OnEvent, quiet
from .execution import Execution
from .fit import Diverged, fit, steps_in_epoch

WORSE = 3.0  # the search ends when the averaged loss is this many times its lowest
PAST = 0.9  # decay of that average
SMOOTH = 0.8  # decay in each direction of the smoothed loss


@dataclass(frozen=True)
class Search:
    """The learning rates tried, in order, and the loss of each one's batch, as it was and smoothed.

    `best` is the rate at which the smoothed loss falls fastest on the way to its minimum.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smoothed(self) -> tuple[float, ...]:
        """Averaged forwards, then backwards, since one direction alone lags; clamped to the first loss."""
        fall = [min(loss, self.losses[0]) for loss in self.losses]  # leaves out the explosion at the end
        return averaged(averaged(fall, SMOOTH)[::-1], SMOOTH)[::-1]

    @property
    def best(self) -> float:
        smoothed = self.smoothed
        lowest = max(1, smoothed.index(min(smoothed)))  # beyond it, falls only recover from an explosion
        falls = [a - b for a, b in pairwise(smoothed[: lowest + 1])]  # rates grow by equal factors
        return self.rates[falls.index(max(falls))]

    def to_json(self) -> dict[str, Any]:
        return {"best": self.best, "rates": self.rates, "losses": self.losses, "smoothed": self.smoothed}


def averaged(losses: Sequence[float], past: float) -> tuple[float, ...]:
    """Exponential moving averages with decay `past`, bias-corrected as in Adam."""
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
    """Trains for at most `steps` steps while the learning rate grows from `lowest` to `highest` by equal factors.

    Ends earlier when the averaged loss is WORSE times its lowest, or a loss is not finite. Keeps only the losses.
    The other arguments, and errors, are those of `fit`.
    """
    if not 0 < lowest < highest:
        raise UserError(f"learning rates from {lowest} to {highest} do not rise", "give 0 < lowest < highest")
    if steps < 10:
        raise UserError(f"{steps} steps are too few to see a slope", "give at least 10")
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
                    f"the loss is not finite even at a learning rate of {lowest}", "give a smaller lowest rate"
                ) from error
    rates = tuple(lowest * (highest / lowest) ** (i / steps) for i in range(len(losses)))
    return Search(rates, tuple(losses))
