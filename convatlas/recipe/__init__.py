"""How a paper trained its network, as plain data: a Recipe of components, and the ways to change one.

`recipe.py` has Recipe, `components.py` its optimizers, schedules, warm-ups, averages of the weights,
`augmentation.py` the grammar of its augmentations, `settings.py` the names for `--set`.
"""

from .augmentation import AUGMENTATIONS, CROPS, MIXES, operation
from .components import (
    EMA,
    SGD,
    Adam,
    AdamW,
    Constant,
    ConstantWarmup,
    Cosine,
    Exponential,
    LinearWarmup,
    Lookahead,
    Muon,
    Optimizer,
    Plateau,
    Poly,
    RMSProp,
    Schedule,
    Step,
    Tuning,
    Warmup,
)
from .recipe import LADDERS, Recipe, with_batch, with_epochs, with_side
from .settings import with_settings

__all__ = [
    "AUGMENTATIONS",
    "CROPS",
    "EMA",
    "LADDERS",
    "MIXES",
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "ConstantWarmup",
    "Cosine",
    "Exponential",
    "LinearWarmup",
    "Lookahead",
    "Muon",
    "Optimizer",
    "Plateau",
    "Poly",
    "RMSProp",
    "Recipe",
    "Schedule",
    "Step",
    "Tuning",
    "Warmup",
    "operation",
    "with_batch",
    "with_epochs",
    "with_settings",
    "with_side",
]
