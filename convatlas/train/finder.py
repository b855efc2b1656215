"""The learning-rate finder: a short training run with a rising learning rate, and the loss at each rate.

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
from .divergence import Diverged
from .events import Event, OnEvent, quiet
from .execution import Execution
from .fit import fit
from .job import steps_in_epoch

WORSE = 3.0  # the search stops when the averaged loss exceeds this many times its minimum
PAST = 0.9  # decay of that average
SMOOTH = 0.8  # decay of the smoothed loss, in each direction


@dataclass(frozen=True)
class Search:
    """The learning rates tried, in order, and the batch loss at each, raw and smoothed.

    `best` is the rate at which the smoothed loss falls fastest before its minimum.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smoothed(self) -> tuple[float, ...]:
        """The losses averaged forwards, then backwards, because one direction alone lags; clamped to the first loss."""
        fall = [min(loss, self.losses[0]) for loss in self.losses]  # ignores the explosion at the end
        return averaged(averaged(fall, SMOOTH)[::-1], SMOOTH)[::-1]

    @property
    def best(self) -> float:
        smoothed = self.smoothed
        lowest = max(1, smoothed.index(min(smoothed)))  # past the minimum, a falling loss is only a recovery
        falls = [a - b for a, b in pairwise(smoothed[: lowest + 1])]  # the slope: rates rise by equal factors
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
    """Ends the search from inside `fit`."""


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
    """Trains for at most `steps` steps while the learning rate rises from `lowest` to `highest` by equal factors.

    Stops early when the averaged loss exceeds WORSE times its minimum, or a loss is not finite. Only the losses are
    kept. The other arguments, and the errors, are those of `fit`.
    """
    if not 0 < lowest < highest:
        raise UserError(f"learning rates from {lowest} to {highest} do not rise", "give 0 < lowest < highest")
    if steps < 10:
        raise UserError(f"{steps} steps are too few to find a slope", "give at least 10")
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
                    f"the loss is not finite even at a learning rate of {lowest}", "start from a smaller one"
                ) from error
    rates = tuple(lowest * (highest / lowest) ** (i / steps) for i in range(len(losses)))
    return Search(rates, tuple(losses))
