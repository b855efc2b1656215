"""Recipe: how a paper trained its network, as plain data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import zip_longest
from math import ceil, inf, isfinite
from typing import Any

from .errors import UserError, unknown
from .preprocess import WHITENINGS

LADDERS = ("paper", "speed", "demo")  # as published; what reaches the same soonest; what shows that all is well
OPTIMIZERS: dict[str, dict[str, float]] = {  # name: the fields that not all have, and its own values of them
    "sgd": {"nesterov": False},
    "rmsprop": {"rho": 0.9, "eps": 1e-10},  # TensorFlow's
    "adam": {"rho": 0.999, "eps": 1e-8},
    "adamw": {"rho": 0.999, "eps": 1e-8},
}
SCHEDULES = ("constant", "step", "plateau", "cosine", "poly", "exponential")
WATCHED = ("test", "train")
WARMUPS = ("constant", "linear")
AUGMENTATIONS = {  # name: its arguments, each (what it is, default, lowest, highest); written "name" or "name:1st:2nd"
    # views: which window of the stored image is taken, at the network's size; at most one, and first
    "area_crop": (("lowest share of the area", 0.08, 0.001, 1), ("highest share", 1, 0.001, 1)),  # aspect 3/4 to 4/3
    "scale_crop": (("lowest short side", 256, 1, inf), ("highest short side", 256, 1, inf)),
    # of the pixels of a batch
    "pad_crop": (("pixels added on each side", 4, 0, inf),),
    "reflect_crop": (("pixels added on each side", 4, 0, inf),),
    "flip": (),
    "alternate_flip": (),
    "photometric": (("strength", 0.4, 0, 1),),
    "lighting": (("standard deviation", 0.1, 0, inf),),
    "autoaugment": (),
    "autoaugment_cifar10": (),
    "cutout": (("side of the square", 16, 1, inf),),
    # of images with one another, and their labels; at most one, and last
    "mixup": (("alpha", 0.2, 0, inf),),
    "cutmix": (("alpha", 1, 0, inf),),
}
VIEWS = ("area_crop", "scale_crop")
MIXES = ("mixup", "cutmix")
DECAY_SCOPES = ("all", "weights", "not_norm", "not_depthwise")

RANGES = {  # field: the lowest value and the highest
    "epochs": (1, inf),
    "batch": (1, inf),
    "lr": (0, inf),
    "momentum": (0, 1),
    "rho": (0, 1),
    "eps": (0, inf),
    "weight_decay": (0, inf),
    "clip": (0, inf),
    "bias_rate": (0, inf),
    "ema": (0, 1),
    "lookahead": (0, 1),
    "gamma": (0, inf),
    "every": (0.001, inf),
    "power": (0, inf),
    "lr_end": (0, inf),
    "patience": (1, inf),
    "drops": (0, inf),
    "threshold": (0, 1),
    "warmup_epochs": (0, inf),
    "warmup_steps": (0, inf),
    "warmup_error": (0, 1),
    "warmup_lr": (0, inf),
    "label_smoothing": (0, 1),
    "aux_weight": (0, inf),
}


@dataclass(frozen=True)
class Recipe:
    """Every field is what the training loop does; `departures` says where that is not what the paper did.

    Times are in epochs and may be fractions (an epoch is one pass over the training images); `schedule.py` says what
    rate follows from them, `optimizers.py` what a step does with it. Raises UserError for a value out of its range, or
    a name that is not legal.
    """

    name: str
    source: str  # paper, section
    epochs: int
    batch: int
    lr: float
    ladder: str = "paper"
    optimizer: str = "sgd"
    momentum: float = 0.9  # beta1 of adam
    nesterov: bool = False
    rho: float | None = None  # the share that the mean square of gradients keeps (beta2 of adam); None: see OPTIMIZERS
    eps: float | None = None  # added to that mean square, under the root (rmsprop), or to the root (adam)
    weight_decay: float = 0.0
    decay_scope: str = "all"  # or "weights": no biases, no batch norm; "not_norm"; "not_depthwise": weights but those
    bias_rate: float = 1.0  # the rate of biases, batch norm's too, in rates of the weights; their decay stays as it is
    clip: float = 0.0  # the norm that the gradient (weight decay's included) is scaled down to; 0: it is not
    ema: float = 0.0  # the share that the moving average of the weights keeps, which is what is judged; 0: no average
    lookahead: float = 0.0  # the share that slow weights, which the fast ones are put back to, keep at the end; 0: none
    schedule: str = "step"
    milestones: tuple[float, ...] = ()  # epochs at which `step` multiplies the rate by gamma
    gamma: float = 0.1
    every: float = 1.0  # epochs in which `exponential` multiplies the rate by gamma
    staircase: bool = False  # at once at the end of them, not little by little
    power: float = 1.0  # of `poly`: the share of training that is left, to that power
    lr_end: float = 0.0  # where `cosine` and `poly` end
    patience: int = 5  # epochs without a better top-1 before `plateau` multiplies the rate by gamma
    drops: int = 3  # `plateau` does so at most this many times
    threshold: float = 0.0  # what a better top-1 has to be better by
    watch: str = "test"  # whose top-1 that is: of the test after each epoch, or of the epoch's "train" images
    warmup: str = "constant"  # at warmup_lr, or "linear": from warmup_lr up to lr
    warmup_epochs: float = 0.0
    warmup_steps: int = 0  # in place of warmup_epochs
    warmup_error: float = 0.0  # in place of both: until the training error in a line of the log is below it
    warmup_lr: float = 0.0
    augment: tuple[str, ...] = ()  # of AUGMENTATIONS, in this order: ("scale_crop:256:512", "flip", "mixup:0.4")
    whiten: str = "channel"  # how pixels are normalised; see Preprocess
    label_smoothing: float = 0.0
    aux_weight: float = 0.0  # weight of each auxiliary classifier's loss
    net: tuple[tuple[str, Any], ...] = ()  # constructor options that the recipe overrides: (("dropout", 0.3),)
    init: tuple[str, ...] = ("*",)  # patterns of the tensors that a start from another run takes from it
    published: str = ""  # the result that the paper prints for this recipe
    departures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not _is(value, field.type):
                raise UserError(
                    f"{field.name}={value!r} is not {TYPES[str(field.type)].article}", f"see Recipe.{field.name}"
                )
        for value, kind, legal in (
            (self.ladder, "ladder", LADDERS),
            (self.optimizer, "optimizer", OPTIMIZERS),
            (self.whiten, "whitening", WHITENINGS),
            (self.schedule, "schedule", SCHEDULES),
            (self.watch, "watched split", WATCHED),
            (self.warmup, "warm-up", WARMUPS),
            (self.decay_scope, "decay scope", DECAY_SCOPES),
        ):
            if value not in legal:
                raise unknown(kind, value, legal)
        names = [operation(op)[0] for op in self.augment]
        for kind, those, place in (("view", VIEWS, 0), ("mix", MIXES, len(names) - 1)):
            if at := [i for i, name in enumerate(names) if name in those and i != place]:
                raise UserError(
                    f"augment={','.join(self.augment)} has {names[at[0]]} in the wrong place",
                    f"a {kind} ({', '.join(those)}) comes {('first' if place == 0 else 'last')}, and only once",
                )
        for name, (lowest, highest) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and lowest <= value <= highest):
                top = "" if highest == inf else f" and at most {highest}"
                raise UserError(f"{name}={value} is out of range", f"give at least {lowest}{top}")
        if list(self.milestones) != sorted(self.milestones) or any(not m > 0 for m in self.milestones):
            raise UserError(f"milestones={self.milestones} do not rise", "give the epochs of the rate's drops in order")
        ends = [name for name in ("warmup_epochs", "warmup_steps", "warmup_error") if getattr(self, name)]
        if len(ends) > 1:
            raise UserError(f"{' and '.join(ends)} each say when the warm-up ends", "set all but one to 0")
        if self.warmup_error and self.warmup != "constant":
            raise UserError(f"warmup_error={self.warmup_error} does not say how fast to rise", "give warmup=constant")
        if self.nesterov and not self.momentum:
            raise UserError("nesterov=True has no momentum to look ahead by", "give momentum above 0 or nesterov=false")
        for name in ("nesterov", "rho", "eps"):
            value, who = getattr(self, name), [o for o, own in OPTIMIZERS.items() if name in own]
            if value not in (None, False) and self.optimizer not in who:
                raise UserError(f"{name}={value} means nothing to {self.optimizer}", f"it is for {', '.join(who)}")
        if self.optimizer.startswith("adam") and 1 in (self.momentum, self.rho):
            raise UserError(f"{self.optimizer} never forgets with momentum or rho at 1", "give less")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_json` made the record of. Raises UserError for a field that is unknown or missing."""
        known = {f.name: f for f in fields(cls)}
        for name in record:
            if name not in known:
                raise unknown("recipe field", name, known)
        for name in ("name", "source", "epochs", "batch", "lr"):
            if name not in record:
                raise UserError(f"the recipe has no {name!r}", "every recipe says it")
        return cls(**{k: _frozen(v) for k, v in record.items()})


def operation(op: str) -> tuple[str, tuple[float, ...]]:
    """An entry of `Recipe.augment` as its name and arguments, defaults filled in: "cutout:8" -> ("cutout", (8.0,)).

    Raises UserError for a name that is not in AUGMENTATIONS, and for arguments that are too many or out of range.
    """
    name, *texts = op.split(":")
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS)
    expected = AUGMENTATIONS[name]
    form = ":".join((name, *(f"<{what}>" for what, *_ in expected)))
    if len(texts) > len(expected):
        raise UserError(f"augmentation {op!r} has too many arguments", f"write {form}")
    values = []
    for (what, default, lowest, highest), text in zip_longest(expected, texts):
        try:
            value = default if not text else float(text)
        except ValueError as error:
            raise UserError(f"augmentation {op!r} has an argument that is no number", f"write {form}") from error
        if not (isfinite(value) and lowest <= value <= highest):
            top = "" if highest == inf else f" and at most {highest}"
            raise UserError(f"augmentation {op!r}: the {what} is out of range", f"give at least {lowest}{top}")
        values.append(float(value))
    if len(values) == 2 and values[0] > values[1]:
        raise UserError(f"augmentation {op!r}: the {expected[0][0]} is above the {expected[1][0]}", f"write {form}")
    return name, tuple(values)


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe on another budget: all its times scaled alike, recorded as a departure."""
    if epochs == recipe.epochs:
        return recipe
    scale = epochs / recipe.epochs
    return replace(
        recipe,
        epochs=epochs,
        milestones=tuple(m * scale for m in recipe.milestones),
        every=max(0.001, recipe.every * scale),
        warmup_epochs=recipe.warmup_epochs * scale,
        warmup_steps=ceil(recipe.warmup_steps * scale),
        patience=max(1, ceil(recipe.patience * scale)),
        departures=(*recipe.departures, f"{epochs} epochs, not {recipe.epochs}; the schedule is scaled alike"),
    )


def with_batch(recipe: Recipe, batch: int) -> Recipe:
    """The recipe with another batch and its rates in proportion, recorded as a departure.

    The linear scaling rule of Goyal et al. (2017), section 2.1, https://arxiv.org/abs/1706.02677.
    """
    if batch == recipe.batch:
        return recipe
    scale = batch / recipe.batch
    return replace(
        recipe,
        batch=batch,
        lr=recipe.lr * scale,
        lr_end=recipe.lr_end * scale,
        warmup_lr=recipe.warmup_lr * scale,
        departures=(*recipe.departures, f"batches of {batch}, not {recipe.batch}; the rate is scaled alike"),
    )


def with_side(recipe: Recipe, was: int, now: int) -> Recipe:
    """The recipe for an input of another side (pixels): images are scaled alike, recorded as a departure."""
    if was == now or not recipe.augment or operation(recipe.augment[0])[0] != "scale_crop":
        return recipe
    low, high = (max(now, round(side * now / was)) for side in operation(recipe.augment[0])[1])
    return replace(
        recipe,
        augment=(f"scale_crop:{low}:{high}", *recipe.augment[1:]),
        departures=(*recipe.departures, f"{now} pixels, not {was}; images are scaled alike before they are cropped"),
    )


FIXED = ("name", "source", "ladder", "net", "published", "departures")  # what --set does not change


def with_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with fields replaced by name, as the command line's `--set` gives them; each recorded as a departure.

    "lr=0.05", "augment=pad_crop,flip", "augment=" (none), "nesterov=true"; "net.dropout=0.3" is an option of the
    network's constructor. Raises UserError for what is no such setting, with the near names.
    """
    legal = [f.name for f in fields(Recipe) if f.name not in FIXED]
    types = {f.name: TYPES[str(f.type)] for f in fields(Recipe)}
    values = {name: getattr(recipe, name) for name in (*legal, "net")}
    departures = list(recipe.departures)
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise UserError(f"--set {setting} gives no value", f"write --set {setting}=VALUE")
        option = name.removeprefix("net.")
        if option != name:
            was, now = dict(values["net"]).get(option, "the network's own"), _literal(text)
            values["net"] = tuple((dict(values["net"]) | {option: now}).items())
        elif name in legal:
            was = values[name]
            try:
                values[name] = now = types[name].parse(text)
            except ValueError as error:
                raise UserError(f"{name}={text!r} is not {types[name].article}", f"{name} is now {was}") from error
        else:
            raise unknown("recipe field", name, legal)
        if now != was:
            departures.append(f"{name}={_printed(now)}, not {_printed(was)}")
    return replace(recipe, **values, departures=tuple(departures))


@dataclass(frozen=True)
class _Type:
    """A field's type: how messages call it, how the command line's text is read, what its values are."""

    article: str
    parse: Callable[[str], Any]
    accepts: Callable[[Any], bool]


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return _whole(value) or isinstance(value, float)


def _maybe_number(value: Any) -> bool:
    return value is None or _number(value)


def _each(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(map(accepts, value))


def _pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


TYPES = {
    "int": _Type("a whole number", int, _whole),
    "float": _Type("a number", float, _number),
    "float | None": _Type(
        "a number or none", lambda text: None if text.lower() == "none" else float(text), _maybe_number
    ),
    "bool": _Type("true or false", _truth, lambda value: isinstance(value, bool)),
    "str": _Type("a name", str, lambda value: isinstance(value, str)),
    "tuple[float, ...]": _Type("numbers", lambda text: tuple(map(float, _split(text))), _each(_number)),
    "tuple[str, ...]": _Type("names", lambda text: tuple(_split(text)), _each(lambda value: isinstance(value, str))),
    "tuple[tuple[str, Any], ...]": _Type("(option, value) pairs", str, _each(_pair)),
}


def _is(value: Any, annotation: Any) -> bool:
    return TYPES[str(annotation)].accepts(value)


def _literal(text: str) -> Any:
    try:
        return _frozen(json.loads(text))
    except json.JSONDecodeError:
        return text


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _printed(value: Any) -> str:
    return (",".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)
