"""Which weights of one network load into another, and whether they mean the same there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..catalogue import Variant
from .diff import align
from .inputs import meta_inputs
from .resolve import resolve
from .trace import Trace, trace

Shape = tuple[int, ...]


@dataclass(frozen=True)
class WeightMatch:
    """A's tensors by what happens to them in B; each is in one of the first five."""

    same: tuple[str, ...]  # same name and shape in B
    renamed: tuple[tuple[str, str], ...]  # in the same position, under another name
    reshaped: tuple[tuple[str, str, Shape, Shape], ...]  # in the same position, with the same number of values
    misfits: tuple[tuple[str, Shape, Shape], ...]  # size mismatch with B's tensor of the same name
    left_over: tuple[str, ...]  # nothing in B corresponds to it
    missing: tuple[str, ...]  # tensors of B that A does not provide
    same_wiring: bool | None  # with equal names and shapes: the same operators in the same order; else None

    @property
    def all_load(self) -> bool:
        return not (self.renamed or self.reshaped or self.misfits or self.left_over or self.missing)


def weight_match(
    a: nn.Module | Variant | str, b: nn.Module | Variant | str, input: Shape | None = None, **options: Any
) -> WeightMatch:
    """Compares the state dicts of two networks, each given as a name, a Variant, a module or "file.py:callable".

    The wiring is compared on one image of `input`, (C, H, W), by default a's. Raises UserError as `account` does.
    """
    net_a, net_b = (resolve(network, input, needs_input=False, **options).net for network in (a, b))
    ours, theirs = net_a.state_dict(), net_b.state_dict()
    common = [name for name in ours if name in theirs]
    same = [name for name in common if ours[name].shape == theirs[name].shape]
    misfits = {name: (_shape(ours[name]), _shape(theirs[name])) for name in common if name not in set(same)}
    rest_a = [name for name in ours if name not in theirs]
    rest_b = [name for name in theirs if name not in ours]
    renamed, reshaped = [], []
    modules_a, modules_b = _modules(rest_a), _modules(rest_b)
    for i, j in align(_points(modules_a, modules_b, ours, theirs)):
        if i < 0 or j < 0:
            continue
        x, y = list(modules_a)[i], list(modules_b)[j]
        for role in modules_a[x]:
            if role in modules_b[y]:
                one, other = f"{x}{role}", f"{y}{role}"
                shapes = _shape(ours[one]), _shape(theirs[other])
                if shapes[0] == shapes[1]:
                    renamed.append((one, other))
                else:
                    reshaped.append((one, other, *shapes))
    for name, (mine, wanted) in list(misfits.items()):
        if _holds_as_much(ours[name], theirs[name]):
            reshaped.append((name, name, mine, wanted))
            del misfits[name]
    used_a, used_b = ({pair[i] for pair in (*renamed, *reshaped)} for i in (0, 1))
    equal = len(same) == len(ours) == len(theirs)
    return WeightMatch(
        tuple(same),
        tuple(renamed),
        tuple(reshaped),
        tuple((name, x, y) for name, (x, y) in misfits.items()),
        tuple(name for name in rest_a if name not in used_a),
        tuple(name for name in rest_b if name not in used_b),
        _same_wiring(net_a, net_b, input) if equal else None,
    )


def _modules(names: list[str]) -> dict[str, list[str]]:
    """These tensors by module: "stem.conv." -> weight, bias."""
    found: dict[str, list[str]] = {}
    for name in names:
        module, dot, role = name.rpartition(".")
        found.setdefault(module + dot, []).append(role)
    return found


def _points(
    a: Mapping[str, list[str]], b: Mapping[str, list[str]], ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> np.ndarray:
    """Only modules of one kind with equally many values pair up; equal shapes and similar names score higher."""
    points = np.zeros((len(a), len(b)), np.int32)
    parts = [[set(module.split(".")) for module in modules] for modules in (a, b)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            both = [(ours[x + role], theirs[y + role]) for role in a[x] if role in b[y]]
            normalise = f"{x}running_mean" in ours, f"{y}running_mean" in theirs
            if both and len(set(normalise)) == 1 and all(_holds_as_much(*pair) for pair in both):
                alike = all(one.shape == other.shape for one, other in both)
                points[i, j] = 2 + 8 * alike + len(parts[0][i] & parts[1][j] - {""})
    return points


def _holds_as_much(x: Tensor, y: Tensor) -> bool:
    """Equally many outputs with equally many values each: a linear layer's matrix, or the filters that replace it."""
    return x.numel() == y.numel() and x.shape[:1] == y.shape[:1]


def _same_wiring(a: nn.Module, b: nn.Module, input: Shape | None) -> bool:
    shape = resolve(a, input).input
    return _wiring(a, shape) == _wiring(b, shape)


def _wiring(net: nn.Module, shape: Any) -> list[tuple[object, ...]]:
    args, kwargs = meta_inputs(net, shape, 1)
    found: Trace = trace(net, args, kwargs)
    return [(n.op, n.inputs, n.parameters, n.args, n.shape) for n in found.nodes]


def _shape(t: Tensor) -> Shape:
    return tuple(t.shape)
