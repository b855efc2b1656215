"""Comparing a network with another library's: the same weights in both, the same logits and gradients out.

Weights travel by the order in which the layers run, so no table of names is needed; `order="defined"` takes the order
of definition instead, for networks whose branches run in another order there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

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
    """Statistics and scales away from 0 and 1, so that a wrong epsilon or a missing bias shows."""
    g = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for tensor, low, high in (
                (m.weight, 0.5, 1.5),
                (m.bias, -0.3, 0.3),
                (m.running_mean, -0.3, 0.3),
                (m.running_var, 0.2, 1.5),
            ):
                assert tensor is not None
                tensor.data.copy_(torch.empty(tensor.shape).uniform_(low, high, generator=g))
        elif isinstance(m, nn.Conv2d | nn.Linear) and m.bias is not None:
            m.bias.data.copy_(torch.empty(m.bias.shape).uniform_(-0.3, 0.3, generator=g))


def leaves(net: nn.Module, x: Tensor, order: str) -> list[tuple[str, nn.Module]]:
    """The modules that own tensors, by name, in the order in which they run (or are defined)."""
    owners = {m: name for name, m in net.named_modules() if [*m.parameters(False), *m.buffers(False)]}
    if order == "defined":
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


def transplant(ours: nn.Module, theirs: nn.Module, x: Tensor, order: str = "run") -> None:
    """Copies every tensor of ours into theirs; both must have the same tensors in the same order."""
    mine, other = leaves(ours, x, order), leaves(theirs, x, order)
    assert len(mine) == len(other), f"{len(mine)} layers with weights against {len(other)}"
    for (a, m), (b, n) in zip(mine, other, strict=True):
        source = [*m.parameters(False), *m.buffers(False)]
        target = [*n.parameters(False), *n.buffers(False)]
        assert [t.shape for t in source] == [t.shape for t in target], f"{a} does not fit {b}"
        for s, t in zip(source, target, strict=True):
            t.data.copy_(s.data)


def difference(a: Tensor, b: Tensor) -> float:
    """max|a - b| / max|b|."""
    return ((a - b).abs().max() / b.abs().max()).item()


def drops_off(net: nn.Module) -> None:
    for m in net.modules():
        if isinstance(m, nn.Dropout | nn.Dropout2d):
            m.p = 0.0


def compare(
    ours: nn.Module,
    theirs: nn.Module,
    shape: tuple[int, int, int],
    *,
    batch: int = 2,
    order: str = "run",
    gradients: bool = True,
    logits: Callable[[nn.Module, Tensor], Tensor] = lambda net, x: net(x),
) -> dict[str, float]:
    """The largest relative differences, in float64, of the logits in evaluation and of the gradients in training.

    `logits` says how to get logits from a training forward of theirs that returns more than that.
    """
    ours, theirs = ours.double(), theirs.double()
    x = torch.randn(batch, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    randomise(ours)
    transplant(ours, theirs, x, order)
    with torch.no_grad():
        found = {"logits": difference(ours.eval()(x), logits(theirs.eval(), x))}
    if gradients:
        drops_off(ours)
        drops_off(theirs)
        grads = []
        for net in (ours.train(), theirs.train()):
            out = logits(net, x)
            weight = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(2))
            (out * weight).sum().backward()
            net.eval()
            grads.append(
                [[p.grad for p in m.parameters(False) if p.grad is not None] for _, m in leaves(net, x, order)]
            )
        flat = [[t for tensors in side for t in tensors] for side in grads]
        assert len(flat[0]) == len(flat[1])
        scale = max(t.abs().max().item() for t in flat[1])
        # a bias before batch norm has no gradient but rounding: such tensors are held against the largest gradient
        found["gradients"] = max(
            (a - b).abs().max().item() / max(b.abs().max().item(), 1e-6 * scale) for a, b in zip(*flat, strict=True)
        )
    return found
