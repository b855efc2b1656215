"""The parts of a recipe: optimizers, learning-rate schedules, warm-ups and averages of the weights.

Each is plain data. Times are in epochs, and may be fractional; `train/schedule.py` turns them into learning rates,
`train/optimizers.py` implements the steps, and `train/average.py` the averages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from math import ceil
from typing import Annotated, Any, ClassVar, Literal, Self

from ..checked import BelowOne, Checked, Count, NonNegative, Positive, Range, Share, hints
from ..errors import UserError, unknown
from ..limits import real_number


@dataclass(frozen=True)
class Component(Checked):
    """A part of a recipe. In JSON it is an object with its kind: {"kind": "sgd", "lr": 0.1, ...}."""

    kind: ClassVar[str]
    EXAMPLE: ClassVar[str]  # in Python's notation; for messages

    def scaled(self, times: float = 1.0, rates: float = 1.0) -> Self:
        """The component with all its times and learning rates multiplied by these factors."""
        return self

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **{name: getattr(self, name) for name in hints(type(self))}}


# Optimizers


@dataclass(frozen=True)
class Optimizer(Component):
    """What all optimizers share.

    `decay_scope` says what weight decay applies to: "all" parameters, "weights" (no biases, no batch norm), "not_norm"
    (all but batch norm) or "not_depthwise" (weights, but not depthwise ones).
    """

    EXAMPLE = "SGD(lr=0.1)"

    lr: NonNegative
    _: KW_ONLY
    weight_decay: NonNegative = 0.0  # an L2 penalty; decoupled in AdamW, and for filters in Muon
    decay_scope: Literal["all", "weights", "not_norm", "not_depthwise"] = "all"
    bias_rate: NonNegative = 1.0  # learning rate of biases (batch norm's too) in multiples of lr; decay as is
    clip: NonNegative = 0.0  # maximum gradient norm, the L2 penalty's gradient included; 0 disables

    def scaled(self, times: float = 1.0, rates: float = 1.0) -> Self:
        return replace(self, lr=self.lr * rates)


@dataclass(frozen=True)
class SGD(Optimizer):
    kind = "sgd"

    momentum: Share = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise UserError("nesterov=True needs momentum", "give momentum above 0, or nesterov=false")


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """TensorFlow's: epsilon is inside the root, and momentum accumulates steps that include the learning rate."""

    kind = "rmsprop"

    rho: Share = 0.9  # decay of the mean squared gradient
    eps: NonNegative = 1e-10
    momentum: Share = 0.9


@dataclass(frozen=True)
class Adam(Optimizer):
    kind = "adam"

    beta1: BelowOne = 0.9
    beta2: BelowOne = 0.999
    eps: NonNegative = 1e-8


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2017, https://arxiv.org/abs/1711.05101)."""

    kind = "adamw"


@dataclass(frozen=True)
class Muon(Optimizer):
    """Orthogonalised momentum for convolutions' filters, and SGD for all other parameters, both with Nesterov momentum.

    Jordan et al. (2024), https://kellerjordan.github.io/posts/muon/. Filters' weight decay is decoupled, and clipping
    leaves out the L2 penalty of the others. The decay of a parameter in a step is lr * weight_decay in any case.
    """

    kind = "muon"

    momentum: Share = 0.95  # of filters
    ns_steps: Count = 5  # of the Newton-Schulz iteration
    normalize: bool = False  # scale filters to a norm of sqrt(cout) before each step, instead of weight decay
    sgd_rate: NonNegative = 1.0  # learning rate of the others, except biases, in multiples of lr; decay as is
    sgd_momentum: Share = 0.9  # of the others


# Schedules


@dataclass(frozen=True)
class Schedule(Component):
    EXAMPLE = "Step(milestones=(30, 60))"


@dataclass(frozen=True)
class Constant(Schedule):
    kind = "constant"


@dataclass(frozen=True)
class Step(Schedule):
    """The rate is multiplied by `gamma` at each milestone."""

    kind = "step"

    milestones: tuple[Positive, ...]  # epochs
    gamma: NonNegative = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.milestones:
            raise UserError("a step schedule without milestones never drops", "give milestones, or schedule=constant")
        if list(self.milestones) != sorted(self.milestones):
            raise UserError(f"milestones={','.join(map(str, self.milestones))} are not in order", "give them in order")

    def scaled(self, times: float = 1.0, rates: float = 1.0) -> Self:
        return replace(self, milestones=tuple(m * times for m in self.milestones))


@dataclass(frozen=True)
class Plateau(Schedule):
    """The rate is multiplied by `gamma` after `patience` epochs without a better top-1, at most `drops` times."""

    kind = "plateau"

    patience: Count = 5  # epochs
    drops: Annotated[int, Range(0)] = 3
    threshold: Share = 0.0  # minimum improvement of top-1
    gamma: NonNegative = 0.1
    watch: Literal["held_out", "train"] = "held_out"  # the split evaluated after each epoch, or its training images

    def scaled(self, times: float = 1.0, rates: float = 1.0) -> Self:
        return replace(self, patience=max(1, ceil(self.patience * times)))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine (Loshchilov and Hutter, 2016, https://arxiv.org/abs/1608.03983, without restarts)."""

    kind = "cosine"

    lr_end: NonNegative = 0.0

    def scaled(self, times: float = 1.0, rates: float = 1.0) -> Self:
        return replace(self, lr_end=self.lr_end * rates)


@dataclass(frozen=True)
class Poly(Schedule):
    """The fraction of training left, to the power `power`; 1 is linear."""

    kind = "poly"

    power: NonNegative = 1.0
    lr_end: NonNegative = 0.0

    def scaled(self, times: float = 1.0, rates: float = 1.0) -> Self:
        return replace(self, lr_end=self.lr_end * rates)


@dataclass(frozen=True)
class Exponential(Schedule):
    """The rate is multiplied by `gamma` every `every` epochs: continuously, or at their end (`staircase`)."""

    kind = "exponential"

    gamma: NonNegative
    every: Annotated[float, Range(0.001)] = 1.0  # epochs
    staircase: bool = False

    def scaled(self, times: float = 1.0, rates: float = 1.0) -> Self:
        return replace(self, every=max(0.001, self.every * times))


# Warm-ups


@dataclass(frozen=True)
class Warmup(Component):
    """The first part of training, replacing the schedule. Exactly one field besides `lr` sets when it ends."""

    PREFIX = "warmup."
    EXAMPLE = "LinearWarmup(epochs=5)"

    lr: NonNegative
    epochs: Positive | None = None
    steps: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ends = {f"warmup.{name}": getattr(self, name) for name in ends_of(type(self))}
        given = [name for name, value in ends.items() if value is not None]
        if len(given) != 1:
            what = f"{' and '.join(given)} each set when the warm-up ends" if given else "the warm-up never ends"
            raise UserError(what, f"give exactly one of {', '.join(ends)}")

    def scaled(self, times: float = 1.0, rates: float = 1.0) -> Self:
        epochs = self.epochs and self.epochs * times
        steps = self.steps and ceil(self.steps * times)
        return replace(self, lr=self.lr * rates, epochs=epochs, steps=steps)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in super().to_json().items() if value is not None}


@dataclass(frozen=True)
class ConstantWarmup(Warmup):
    """At `lr`, for some epochs or steps, or until the training error in a line of the log is below `error`."""

    kind = "constant"

    error: Annotated[float, Range(0, 1, above=True)] | None = None


@dataclass(frozen=True)
class LinearWarmup(Warmup):
    """From `lr` up to the optimizer's, in equal steps."""

    kind = "linear"

    lr: NonNegative = 0.0


def ends_of(warmup: type[Component]) -> list[str]:
    """The fields that set when a warm-up of that class ends."""
    return [name for name in hints(warmup) if name != "lr"]


# Averages of the weights


@dataclass(frozen=True)
class EMA(Component):
    """An exponential moving average of the weights, which is evaluated in their place."""

    kind = "ema"
    PREFIX = "ema."
    EXAMPLE = "EMA(0.9999)"

    decay: Share


@dataclass(frozen=True)
class Lookahead(Component):
    """Slow weights, to which the trained ones are reset every few steps; `decay` is their final decay."""

    kind = "lookahead"
    PREFIX = "lookahead."
    EXAMPLE = "Lookahead(0.8)"

    decay: Share


# What learns


@dataclass(frozen=True)
class Tuning(Component):
    """Which parts of a network learn, and how fast. Parts are the stem, each stage, and the head with what is left.

    `frozen` and `rates` name parts ("stem", a stage, "head") or modules ("stages.conv2.block1").
    """

    kind = "tuning"
    PREFIX = "tuning."
    EXAMPLE = "Tuning(frozen=('stem',))"

    frozen: tuple[str, ...] = ()  # these keep their weights, and run as in evaluation
    rates: tuple[str, ...] = ()  # "stage7:0.5": its learning rate in multiples of what it is otherwise
    decay: Share = 1.0  # of the learning rate from each part to the one before it
    unfreeze: NonNegative = 0.0  # epochs until each earlier part begins to learn; 0: all from the start
    norm: Literal["trained", "frozen"] = "trained"  # frozen: batch norms keep their weights and statistics

    def __post_init__(self) -> None:
        super().__post_init__()
        for entry in self.rates:
            name, colon, text = entry.rpartition(":")
            rate = real_number_or_none(text)
            if not (name and colon) or rate is None or rate < 0:
                raise UserError(f"tuning.rates={entry!r} is not a part and its rate", "write stage7:0.5")

    def scaled(self, times: float = 1.0, rates: float = 1.0) -> Self:
        return replace(self, unfreeze=self.unfreeze * times)


def real_number_or_none(text: str) -> float | None:
    try:
        return real_number(text)
    except ValueError:
        return None


KINDS: dict[str, dict[str, type[Component]]] = {  # by field of Recipe
    "optimizer": {c.kind: c for c in (SGD, RMSProp, Adam, AdamW, Muon)},
    "schedule": {c.kind: c for c in (Constant, Step, Plateau, Cosine, Poly, Exponential)},
    "warmup": {c.kind: c for c in (LinearWarmup, ConstantWarmup)},
    "ema": {EMA.kind: EMA},
    "lookahead": {Lookahead.kind: Lookahead},
    "tuning": {Tuning.kind: Tuning},
}


def component(part: str, record: Any) -> Component | None:
    """The component from a record made by `to_json`. Raises UserError."""
    if record is None:
        return None
    if not isinstance(record, Mapping) or not isinstance(record.get("kind"), str):
        raise UserError(f"the recipe's {part} is not an object with a kind", f"one of {', '.join(KINDS[part])}")
    if record["kind"] not in KINDS[part]:
        raise unknown(part, record["kind"], KINDS[part])
    values = {name: value for name, value in record.items() if name != "kind"}
    return KINDS[part][record["kind"]].from_values(f"{record['kind']} {part}", values)
