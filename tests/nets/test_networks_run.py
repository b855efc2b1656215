"""Every network run for real: forward and backward at the smallest input it takes, and at an odd one.

The smallest has one channel where the network's own images have three, and the other way round. Rows that differ in
their input alone are the same network, and are run once.
"""

import re

import pytest
import torch
from torch import Tensor, nn

from convatlas import tables
from convatlas.catalogue import Variant, find, variants
from convatlas.errors import UserError
from convatlas.layers import ConvNet, on_meta

HEAVY = 20e6  # parameters above which a real run belongs to the slow group
LONG = 400  # rows above which it does


def networks() -> list[object]:
    first: dict[str, str] = {}
    for name, variant in variants().items():
        first.setdefault(f"{variant.net} {sorted(variant.args.items(), key=str)}", name)
    return [pytest.param(name, marks=pytest.mark.slow) if heavy(name) else name for name in first.values()]


def heavy(name: str) -> bool:
    counted = tables.load(name)
    return counted.totals.params + counted.totals.idle > HEAVY or len(counted.rows) > LONG


def smallest(variant: Variant, channels: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Side in pixels of the smallest square that the network takes, as its refusal of one pixel names it.

    That size passes, and one pixel less is refused in the same words.
    """
    with monkeypatch.context() as patch, on_meta():
        patch.setattr(nn.BatchNorm2d, "forward", lambda self, x: x)  # changes no size, and is slow on the meta device
        refusal = ""
        try:
            variant.build(input=(channels, 1, 1))
        except UserError as error:
            refusal = str(error)
        if not refusal:
            return 1
        named = re.search(rf"the smallest square that does is {channels}x(\d+)x\1\b", refusal)
        assert named, refusal
        least = int(named[1])
        variant.build(input=(channels, least, least))
        with pytest.raises(UserError, match=named[0]):
            variant.build(input=(channels, least - 1, least - 1))
    return least


def run(net: ConvNet, size: tuple[int, int]) -> Tensor:
    """The sum of all logits that training sees, with whatever drops values or paths switched off."""
    assert net.input is not None
    x = torch.randn(3, net.input[0], *size, generator=torch.Generator().manual_seed(0))
    for m in net.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
    logits, aux = net.train().forward_aux(x)
    return torch.stack([logits, *aux.values()]).sum(0)


def features_are_what_the_head_reads(net: ConvNet, x: Tensor) -> None:
    """And are not overwritten by the stages that read them."""
    made: list[Tensor] = []
    for stage in net.stages.children():
        stage.register_forward_hook(lambda _, args, y: made.append((y if isinstance(y, Tensor) else y[-1]).clone()))
    with torch.no_grad():
        maps = net.features(x)
    assert all(map(torch.equal, maps, made))
    logits = net(x)
    assert logits.shape == (1, 5)
    if maps:
        assert torch.equal(net.head(maps[-1]), logits)
    assert torch.equal(net.head(net.trunk()(x)), logits)


@pytest.mark.parametrize("name", networks())
def test_forward_and_backward(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    variant = find(name)
    assert variant.input is not None
    own = variant.input[0]
    least = smallest(variant, own, monkeypatch)
    odd = least + 5 + least % 2
    for channels, size in ((1 if own == 3 else 3, (least, least)), (own, (odd, odd + 6))):
        net = variant.build(input=(channels, *size), classes=5)
        out = run(net, size)
        assert out.shape == (3, 5)
        assert out.isfinite().all()
        features_are_what_the_head_reads(net.eval(), torch.rand(1, channels, *size))
    out.square().sum().backward()
    silent = [k for k, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent, "a parameter that is learnt gets no gradient"
