"""Recipe: how a paper trained its network, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .errors import UserError, unknown

OPTIMIZERS = ("sgd",)
SCHEDULES = ("constant", "step", "plateau", "cosine")
AUGMENTATIONS = ("pad_crop", "flip")


@dataclass(frozen=True)
class Recipe:
    """Every field is what the training loop does; `departures` says where that is not what the paper did."""

    name: str
    source: str  # paper, section
    epochs: int
    batch: int
    lr: float
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_scope: str = "all"  # "all" parameters, or "weights": neither biases nor batch-norm's
    schedule: str = "step"
    milestones: tuple[float, ...] = ()  # epochs at which `step` multiplies the rate by gamma
    gamma: float = 0.1
    patience: int = 5  # epochs without improvement before `plateau` multiplies by gamma
    warmup_epochs: float = 0.0  # at warmup_lr, before the schedule's own rate
    warmup_lr: float = 0.0
    augment: tuple[str, ...] = ()  # of AUGMENTATIONS, applied in this order
    pad: int = 4  # zero pixels on each side before pad_crop's crop
    label_smoothing: float = 0.0
    aux_weight: float = 0.0  # weight of each auxiliary classifier's loss
    net: tuple[tuple[str, Any], ...] = ()  # constructor options that the recipe overrides, e.g. (("dropout", 0.3),)
    published: str = ""  # the result the paper prints for this recipe
    departures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for value, kind, legal in (
            (self.optimizer, "optimizer", OPTIMIZERS),
            (self.schedule, "schedule", SCHEDULES),
            (self.decay_scope, "decay scope", ("all", "weights")),
            *((name, "augmentation", AUGMENTATIONS) for name in self.augment),
        ):
            if value not in legal:
                raise unknown(kind, value, legal)
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} is too small; give at least 1")
