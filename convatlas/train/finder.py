"""The learning-rate finder: a short training whose rate grows from step to step, and the losses that it meets.

Smith (2015), Cyclical Learning Rates for Training Neural Networks, https://arxiv.org/abs/1506.01186, section 3.3.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

from ..catalogue import Shape, Variant
from ..dataset import Data
from ..errors import UserError
from ..recipe import Recipe
from .engine import Engine
from .fit import Diverged, fit, steps_in_epoch
from .progress import Event, Say, quiet

SMOOTH = 0.9  # the share of the past in the smoothed loss
WORSE = 3.0  # times the lowest smoothed loss: beyond it the search ends


@dataclass(frozen=True)
class Search:
    """The rates tried, in order, and the loss of the batch that met each: as it was, and averaged over those before.

    The average is exponential and corrected for its beginning (as Adam's). `best` is the rate where it falls fastest.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smoothed(self) -> tuple[float, ...]:
        mean, found = 0.0, []
        for n, loss in enumerate(self.losses, start=1):
            mean = SMOOTH * mean + (1 - SMOOTH) * loss
            found.append(mean / (1 - SMOOTH**n))
        return tuple(found)

    @property
    def best(self) -> float:
        falls = [a - b for a, b in pairwise(self.smoothed)]  # the rates grow by equal factors
        return self.rates[falls.index(max(falls))]

    def to_json(self) -> dict[str, Any]:
        return {"best": self.best, "rates": self.rates, "losses": self.losses, "smoothed": self.smoothed}


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
    engine: Engine = Engine(),  # noqa: B008 (frozen)
    input: Shape | None = None,
    say: Say = quiet,
) -> Search:
    """Trains by the recipe for at most `steps` steps, the rate growing from `lowest` to `highest` by equal factors.

    It ends earlier when the loss is WORSE times its lowest, or is not finite. Nothing is kept but the losses. The
    other arguments, and errors, are those of `fit`.
    """
    if not 0 < lowest < highest:
        raise UserError(f"rates from {lowest} to {highest} do not rise; give a lowest above 0 and below the highest")
    if steps < 10:
        raise UserError(f"{steps} steps show no slope; give at least 10")
    epochs = steps / steps_in_epoch(len(data.train), recipe.batch)
    rising = replace(
        recipe,
        lr=lowest,
        schedule="exponential",
        gamma=highest / lowest,
        every=epochs,
        staircase=False,
        warmup_epochs=0.0,
        warmup_steps=0,
        epochs=ceil(epochs),
    )
    losses: list[float] = []

    def watch(event: Event) -> None:
        if event["kind"] != "step":
            return
        losses.append(event["batch_loss"])
        say(event | {"step": len(losses), "steps": steps, "epoch": 1, "epochs": 1})
        smoothed = search(losses).smoothed
        if len(losses) >= steps or smoothed[-1] > WORSE * min(smoothed):
            raise Enough

    def search(losses: list[float]) -> Search:
        return Search(tuple(lowest * (highest / lowest) ** (i / steps) for i in range(len(losses))), tuple(losses))

    with tempfile.TemporaryDirectory() as folder:
        try:
            fit(
                network,
                data,
                rising,
                out=Path(folder) / "run",
                seed=seed,
                device=device,
                engine=engine,
                input=input,
                say=watch,
            )
        except Enough:
            pass
        except Diverged as error:
            if len(losses) < 3:
                raise UserError(f"the loss is not finite at a rate of {lowest} already; give a smaller one") from error
    return search(losses)
