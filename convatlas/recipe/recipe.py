"""Recipe, and the same recipe for another number of epochs, batch size or image size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..checked import Checked, Count, NonNegative, Share
from ..errors import UserError, unknown
from ..preprocess import Whitening
from .augmentation import check_order, operation
from .components import EMA, KINDS, Component, Constant, Lookahead, Optimizer, Schedule, Tuning, Warmup, component

LADDERS = ("paper", "speed", "own", "demo")  # as published; as good in less time; our defaults; a quick smoke test


@dataclass(frozen=True)
class Recipe(Checked):
    """What the training loop does; `departures` lists the differences from the paper.

    Raises UserError for a value of the wrong type or out of range, and for unknown names.
    """

    name: str
    source: str  # paper, section
    epochs: Count
    batch: Count  # global batch size
    optimizer: Optimizer
    schedule: Schedule = Constant()  # noqa: RUF009 (frozen)
    warmup: Warmup | None = None
    ema: EMA | None = None
    lookahead: Lookahead | None = None
    tuning: Tuning | None = None  # which parts learn, and how fast
    augment: tuple[str, ...] = ()  # see augmentation.py; in this order: ("scale_crop:256:512", "flip", "mixup:0.4")
    whiten: Whitening = "channel"  # how pixels are normalised; see Preprocess
    label_smoothing: Share = 0.0
    balance: bool = False  # each class weighs as much as any other in the loss, however many images it has
    aux_weight: NonNegative = 0.0  # weight of each auxiliary classifier's loss
    net: tuple[tuple[str, Any], ...] = ()  # constructor options that the recipe overrides: (("dropout", 0.3),)
    init: tuple[str, ...] = ("*",)  # patterns of the tensors to load when starting from another run
    ladder: str = "paper"
    published: str = ""  # the paper's result with this recipe
    departures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ladder not in LADDERS:
            raise unknown("ladder", self.ladder, LADDERS)
        check_order(self.augment)

    def to_json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: v.to_json() if isinstance(v, Component) else v for name, v in values.items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Recipe:
        """The recipe from a record made by `to_json`. Raises UserError for an unknown or missing field."""
        parts = {part: component(part, record[part]) for part in KINDS if part in record}
        return cls.from_values("recipe", {**record, **parts})


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe for another number of epochs, its schedule and warm-up scaled to match; recorded as a departure."""
    if epochs == recipe.epochs:
        return recipe
    if epochs < 1:
        raise UserError(f"epochs={epochs} is out of range", "give at least 1")
    times = epochs / recipe.epochs
    return replace(
        recipe,
        epochs=epochs,
        schedule=recipe.schedule.scaled(times=times),
        warmup=recipe.warmup and recipe.warmup.scaled(times=times),
        tuning=recipe.tuning and recipe.tuning.scaled(times=times),
        departures=(*recipe.departures, f"{epochs} epochs, not {recipe.epochs}; schedule scaled to match"),
    )


def with_batch(recipe: Recipe, batch: int) -> Recipe:
    """The recipe for another global batch size, its learning rates scaled linearly; recorded as a departure.

    The linear scaling rule of Goyal et al. (2017), section 2.1, https://arxiv.org/abs/1706.02677.
    """
    if batch == recipe.batch:
        return recipe
    rates = batch / recipe.batch
    return replace(
        recipe,
        batch=batch,
        optimizer=recipe.optimizer.scaled(rates=rates),
        schedule=recipe.schedule.scaled(rates=rates),
        warmup=recipe.warmup and recipe.warmup.scaled(rates=rates),
        departures=(*recipe.departures, f"batch size {batch}, not {recipe.batch}; learning rates scaled linearly"),
    )


def with_side(recipe: Recipe, was: int, now: int) -> Recipe:
    """The recipe for another input size (pixels per side): images resized in proportion; recorded as a departure."""
    name, sides = operation(recipe.augment[0]) if recipe.augment else ("", ())
    if was == now or name not in ("scale_crop", "square_crop", "warp_crop"):
        return recipe
    scaled = [str(max(now, round(side * now / was))) for side in sides]
    return replace(
        recipe,
        augment=(":".join((name, *scaled)), *recipe.augment[1:]),
        departures=(*recipe.departures, f"{now} pixels, not {was}; images resized in proportion before cropping"),
    )
