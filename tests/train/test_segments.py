"""Segments: the same losses, gradients and statistics as without them, and the memory that was predicted."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint_sequential

from convatlas.accounting.memory.predict import sequence
from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.train.segments import cut, recomputed

NETS = ("resnet20", "densenet_40_12", "stochastic_depth_resnet110", "vgg11_bn", "nin_cifar")


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return find(name).build(classes=10, input=(3, 32, 32)).train()


def step(net: nn.Module, run: object, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(1)  # dropout and dropped layers
    loss = F.cross_entropy(run(x), y)  # type: ignore[operator]
    loss.backward()
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in net.named_parameters()}
    return loss.detach(), gradients, dict(net.named_buffers())


@pytest.mark.parametrize("segments", [1, 2, 5])
@pytest.mark.parametrize("name", NETS)
def test_segments_change_no_bit(name: str, segments: int) -> None:
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    plain, parted = built(name), built(name)
    expected = step(plain, plain, x, y)
    got = step(parted, recomputed(cut(parted, segments, name)), x, y)
    assert torch.equal(got[0], expected[0])
    for ours, theirs in zip(got[1:], expected[1:], strict=True):
        for key, value in theirs.items():
            assert torch.equal(ours[key], value), key


def test_the_cuts_are_those_of_checkpoint_sequential(monkeypatch: pytest.MonkeyPatch) -> None:
    net = built("resnet20")
    units, seen = sequence(net), []
    monkeypatch.setattr("torch.utils.checkpoint.checkpoint", lambda run, x, **_: (seen.append(run), run(x))[1])
    for segments in (2, 3, 5, len(units)):
        seen.clear()
        checkpoint_sequential(units, segments, torch.randn(2, 3, 32, 32), use_reentrant=False)
        ends = [[c.cell_contents for c in run.__closure__] for run in seen]
        starts = [min(v for v in cells if isinstance(v, int)) for cells in ends]
        parts = cut(net, segments, "resnet20")
        ours = [0, *torch.tensor([len(part) for part in parts]).cumsum(0).tolist()]
        assert starts == ours[: len(starts)]
        assert [u for part in parts for u in part] == units
        assert all(a < b for a, b in pairwise(ours))


@pytest.mark.parametrize(
    ("name", "segments", "message"),
    [
        ("fractalnet_20", 2, "fractalnet_20 runs 1 module in sequence.*leave out --segments"),
        ("resnet20", 99, "too few for 99 segments; give at most "),
    ],
)
def test_what_cannot_be_cut(name: str, segments: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cut(find(name).build(), segments, name)
