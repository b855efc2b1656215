"""Job: what is asked of a training run and who carries it out, in one record that travels through this room."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..catalogue import Shape, Variant
from ..data.normalise import Normalizer
from ..data.types import Data
from ..errors import UserError
from ..machine.processes import World
from ..recipe import Recipe
from .events import OnEvent
from .execution import Execution


@dataclass(frozen=True)
class Job:
    """The arguments of `fit`, resolved. Raises UserError for a training set or a batch too small for the processes."""

    variant: Variant
    data: Data
    recipe: Recipe
    input: Shape | None
    seed: int
    device: torch.device
    execution: Execution
    world: World
    on_event: OnEvent
    normalizer: Normalizer | None = None  # how images are prepared; None: as suits the data

    def __post_init__(self) -> None:
        steps_in_epoch(len(self.data.train), self.recipe.batch, self.world.size)

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return steps_in_epoch(len(self.data.train), self.recipe.batch, self.world.size)

    @property
    def total_steps(self) -> int:
        return self.recipe.epochs * self.steps


def steps_in_epoch(images: int, batch: int, processes: int = 1) -> int:
    """Steps of `batch` images, with a smaller last one unless a process would get one image (batch norm needs two).

    Raises UserError if the batch, or the whole training set, has fewer than two images for each process.
    """
    if not images:
        raise UserError("the data has no training images, only some to evaluate on", "give data with a train split")
    steps = images // batch + (images % batch >= 2 * processes)
    if batch < 2 * processes and processes > 1:
        raise UserError(
            f"a batch of {batch} leaves {processes} processes with fewer than 2 images each", "give a larger batch"
        )
    if steps == 0:
        raise UserError(f"{images} training images are too few for a batch", f"give at least {2 * processes}")
    return steps
