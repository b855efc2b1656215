"""Comparing a network with another library's: the same weights in both, the same logits and gradients out.

Weights travel by the order in which the layers run, so no table of names is needed; `order="defined"` takes the order
of definition instead, for networks whose branches run in another order there, and a function that turns a name of
theirs into one of ours is for networks that agree in neither.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Order = Literal["run", "defined"] | Callable[[str], str]
_declared: list[torch.library.Library] = []


def torchvision_models() -> ModuleType:
    """torchvision.models; beside a CPU build of torch its operators must be declared before it imports."""
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed (extra `oracles`)")
    if not _declared:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
    import torchvision.models

    return torchvision.models


def timm() -> ModuleType:
    torchvision_models()  # timm imports torchvision
    if find_spec("timm") is None:
        pytest.skip("timm is not installed (extra `oracles`)")
    import timm as module

    return module


def randomise(net: nn.Module, seed: int = 0) -> None:
    """Weights that keep the signal alive (He), all else away from 0 and 1, so that a missing bias shows."""
    g = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, _BatchNorm):
            for tensor, low, high in (
                (m.weight, 0.5, 1.5),
                (m.bias, -0.3, 0.3),
                (m.running_mean, -0.3, 0.3),
                (m.running_var, 0.2, 1.5),
            ):
                if tensor is None:  # tf-slim's has no scale
                    continue
                tensor.data.copy_(torch.empty(tensor.shape).uniform_(low, high, generator=g))
        elif isinstance(m, nn.Conv2d | nn.Linear):
            m.weight.data.copy_(torch.empty(m.weight.shape).normal_(generator=g) * (2 / m.weight[0].numel()) ** 0.5)
            if m.bias is not None:
                m.bias.data.copy_(torch.empty(m.bias.shape).uniform_(-0.3, 0.3, generator=g))


def calibrate(net: nn.Module, x: Tensor, seed: int = 0) -> None:
    """Running statistics about those of `x`, randomised, so that the evaluation pass sees maps of a sane size."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    with torch.no_grad():
        net.train()(x)
    g = torch.Generator().manual_seed(seed)
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
        mean, var = m.running_mean, m.running_var
        assert mean is not None
        assert var is not None
        mean += var.sqrt() * torch.empty(mean.shape).uniform_(-0.3, 0.3, generator=g)
        var *= torch.empty(var.shape).uniform_(0.5, 1.5, generator=g)
        var += 0.05  # no division by the nothing of a dead map


def leaves(net: nn.Module, x: Tensor, order: Order) -> list[tuple[str, nn.Module]]:
    """The modules that own tensors, by name, in the order in which they run (or are defined)."""
    owners = {m: name for name, m in net.named_modules() if [*m.parameters(False), *m.buffers(False)]}
    if order != "run":
        return [(name, m) for m, name in owners.items()]
    ran: dict[nn.Module, str] = {}

    def note(m: nn.Module, *_: object) -> None:
        ran.setdefault(m, owners[m])

    hooks = [m.register_forward_hook(note) for m in owners]
    with torch.no_grad():
        net.eval()(x)
    for hook in hooks:
        hook.remove()
    return [(name, m) for m, name in ran.items()]


def counterparts(ours: nn.Module, theirs: nn.Module, x: Tensor, order: Order) -> list[tuple[nn.Module, nn.Module]]:
    """Our layers with weights, each with theirs; both have as many, of the same shapes (1x1 for linear is the same)."""
    mine, other = leaves(ours, x, order), leaves(theirs, x, order)
    assert len(mine) == len(other), f"{len(mine)} layers with weights against {len(other)}"
    if callable(order):
        named = dict(mine)
        mine = [(order(name), named[order(name)]) for name, _ in other]
        assert len({name for name, _ in mine}) == len(mine)
    for (a, m), (b, n) in zip(mine, other, strict=True):
        shapes = [[without_1x1(t).shape for t in (*layer.parameters(False), *layer.buffers(False))] for layer in (m, n)]
        assert shapes[0] == shapes[1], f"{a} does not fit {b}"
    return [(m, n) for (_, m), (_, n) in zip(mine, other, strict=True)]


def without_1x1(t: Tensor) -> Tensor:
    return t.flatten(1) if t.shape[2:] == (1, 1) else t


def difference(a: Tensor, b: Tensor) -> float:
    """max|a - b| / max|b|."""
    return ((a - b).abs().max() / b.abs().max()).item()


def gradient(p: nn.Parameter) -> Tensor:
    assert p.grad is not None
    return p.grad


def drops_off(net: nn.Module) -> None:
    """Every rate of dropout, drop-path or stochastic depth is zero, whatever the library calls it."""
    for m in net.modules():
        for name in ("p", "drop_prob", "drop_rate"):
            if isinstance(getattr(m, name, None), float):
                setattr(m, name, 0.0)


def compare(
    ours: nn.Module,
    theirs: nn.Module,
    shape: tuple[int, int, int],
    *,
    batch: int = 2,
    order: Order = "run",
    gradients: bool = True,
) -> dict[str, float]:
    """The largest relative differences, in float64 and without drops: of the logits in evaluation ("logits") and in
    training ("training"), and of the gradients of their weighted sum."""
    ours, theirs = ours.double(), theirs.double()
    x = torch.randn(batch, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    drops_off(ours)
    drops_off(theirs)
    randomise(ours)
    calibrate(ours, x)
    layers = counterparts(ours, theirs, x[:1], order)
    for m, n in layers:
        for s, t in zip((*m.parameters(False), *m.buffers(False)), (*n.parameters(False), *n.buffers(False))):
            t.data.copy_(s.data.view_as(t))
    with torch.no_grad():
        logits = ours.eval()(x)
        found = {"logits": difference(logits, theirs.eval()(x))}
    assert difference(logits[:1], logits[1:]) > 0.01, "the logits hardly depend on the image: they compare nothing"
    if gradients:
        out = []
        for net in (ours.train(), theirs.train()):
            out.append(net(x))
            weights = torch.randn(out[-1].shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))
            (out[-1] * weights).sum().backward()
        found["training"] = difference(out[0], out[1])
        parameters = [pair for m, n in layers for pair in zip(m.parameters(False), n.parameters(False), strict=True)]
        pairs = [(gradient(p), gradient(q)) for p, q in parameters]
        scale = max(b.abs().max().item() for _, b in pairs)
        # a bias before batch norm has no gradient but rounding: such tensors are held against the largest gradient
        found["gradients"] = max(
            (a.view_as(b) - b).abs().max().item() / max(b.abs().max().item(), 1e-6 * scale) for a, b in pairs
        )
    return found
