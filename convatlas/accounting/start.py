"""What a network starts from, measured on one that is built: the spread of its first weights; batch norm's settings.

Papers give a distribution ("normal, standard deviation 0.01") or a rule ("variance 2 / fan-in"); the figures here are
those of the weights that the constructor draws, so they can be held against either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..catalogue import Variant

SHAPES = {"normal": 3.0, "uniform": 1.8, "normal, cut at two deviations": 2.366}  # by kurtosis
ENOUGH = 1000  # values from which a shape can be told
GAINS = (2.0, 1.0, 1 / 3)  # variance times fan: He's, Glorot's as Caffe has it, Torch's
GROUPS = 4  # spreads of a kind of layer that are listed one by one; of more, the range


@dataclass(frozen=True)
class Start:
    """One kind of parameter or setting: how many tensors (or layers) start alike, and from what.

    `std` is the standard deviation of what is drawn about 0, the same in all; `value` is a constant; else None.
    """

    what: str  # "Conv2d weight", "BatchNorm2d eps"
    count: int
    start: str  # in words
    std: float | None = None
    value: float | None = None


@dataclass(frozen=True)
class Drawn:
    """A tensor of first weights."""

    std: float
    kurtosis: float
    values: int
    fan_in: int
    fan_out: int  # of all groups, as torch has it
    groups: int


def start(variant: Variant) -> list[Start]:
    """What the variant starts from, of weights drawn with seed 0; the random numbers that come next stay the same."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return start_of(variant.build())


def start_of(net: nn.Module) -> list[Start]:
    """What this network has now, by kind of layer in order of its modules."""
    constants: dict[str, list[float]] = {}
    drawn: dict[str, list[Drawn]] = {}
    scales: dict[str, list[Tensor]] = {}
    settings: dict[str, list[float]] = {}
    for m in net.modules():
        for name, p in m.named_parameters(recurse=False):
            what, values = f"{kind(m)} {name}", p.detach()
            if isinstance(m, _NormBase) and values.unique().numel() > 1:
                scales.setdefault(what, []).append(values)
            elif (values == values.flatten()[0]).all():
                constants.setdefault(what, []).append(values.flatten()[0].item())
            else:
                drawn.setdefault(what, []).append(measure(m, values))
        if isinstance(m, _NormBase):
            settings.setdefault(f"{kind(m)} eps", []).append(m.eps)
            if m.momentum is not None and m.track_running_stats:
                settings.setdefault(f"{kind(m)} momentum", []).append(m.momentum)
    found = [one for what, tensors in drawn.items() for one in spreads(what, tensors)]
    for what, parts in scales.items():
        values = torch.cat(parts)
        low, high = (f"{v.item():.2f}" for v in values.aminmax())
        found.append(Start(what, len(parts), f"drawn from {low} to {high}, mean {values.mean().item():.2f}"))
    for what, each in (*constants.items(), *settings.items()):
        found += [Start(what, each.count(v), f"{v:.5g}", value=float(f"{v:.5g}")) for v in dict.fromkeys(each)]
    return found


def kind(m: nn.Module) -> str:
    """The class of a layer, or torch's that it is a kind of."""
    for known in (nn.Conv2d, nn.Linear, nn.BatchNorm2d):
        if isinstance(m, known):
            return known.__name__
    return type(m).__name__


def measure(m: Any, values: Tensor) -> Drawn:
    square = values.square().mean().item()
    weight = m.weight if isinstance(getattr(m, "weight", None), Tensor) and m.weight.ndim > 1 else values[:, None]
    kurtosis = values.pow(4).mean().item() / square**2
    fans = weight[0].numel(), weight[:, 0].numel()
    return Drawn(sqrt(square), kurtosis, values.numel(), *fans, groups=getattr(m, "groups", 1))


def group_fan_out(t: Drawn) -> float:
    return t.fan_out / t.groups


def spreads(what: str, tensors: list[Drawn]) -> Iterator[Start]:
    """The rule that all follow; or one or two spreads; or the rule that most follow, and the rest; or a range."""
    rule, follow = rule_of_most(tensors)
    groups = alike(tensors)
    if len(follow) == len(tensors) or (len(follow) > len(tensors) / 2 and len(groups) > 2):
        yield Start(what, len(follow), f"{shape(follow)}, variance {rule}")
        if rest := [t for t in tensors if t not in follow]:
            yield from spreads(what, rest)
    elif len(groups) > GROUPS:
        low, high = (f"{of(t.std for t in tensors):.2g}" for of in (min, max))
        yield Start(what, len(tensors), f"{shape(tensors)}, std {low} to {high}, by layer")
    else:
        for group in groups:
            std = float(f"{pooled(group):.2g}")
            yield Start(what, len(group), f"{shape(group)}, std {std:g}", std=std)


def rule_of_most(tensors: list[Drawn]) -> tuple[str, list[Drawn]]:
    """The rule that the most of the tensors follow, in words, and these."""
    rules: dict[str, list[Drawn]] = {}
    for of in ("fan-in", "fan-out", "fan-out of a group"):
        for gain in GAINS:
            words = f"1 / (3 {of})" if gain < 1 else f"{gain:g} / {of}"
            fans = {"fan-in": lambda t: t.fan_in, "fan-out": lambda t: t.fan_out, "fan-out of a group": group_fan_out}
            rules[words] = [t for t in tensors if near(t.std * sqrt(fans[of](t) / gain), 1.0, t)]
    return max(rules.items(), key=lambda rule: len(rule[1]))


def alike(tensors: list[Drawn]) -> list[list[Drawn]]:
    """The tensors in groups of the same spread."""
    groups: list[list[Drawn]] = []
    for t in sorted(tensors, key=lambda t: -t.values):
        for group in groups:
            if near(t.std, pooled(group), t):
                group.append(t)
                break
        else:
            groups.append([t])
    return groups


def pooled(tensors: list[Drawn]) -> float:
    return sqrt(sum(t.std**2 * t.values for t in tensors) / sum(t.values for t in tensors))


def near(std: float, expected: float, t: Drawn) -> bool:
    """Whether they are the same within six errors of a standard deviation that is estimated, and 1%."""
    return abs(std / expected - 1) < 6 * sqrt(max(t.kurtosis - 1, 0.8) / 4 / t.values) + 0.01


def shape(tensors: list[Drawn]) -> str:
    """The distribution, by the kurtosis of the larger tensors; "drawn" where none is large enough."""
    large = [t for t in tensors if t.values >= ENOUGH]
    if not large:
        return "drawn"
    kurtosis = sum(t.kurtosis * t.values for t in large) / sum(t.values for t in large)
    return min(SHAPES, key=lambda name: abs(SHAPES[name] - kurtosis))
