"""Every network run for real: forward and backward at the smallest input it takes, and at an odd one."""

import re
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from convatlas.account import account
from convatlas.catalogue import find, names
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.tables import index

HEAVY = 30e6  # parameters above which a real run belongs to the slow group
LONG = 700  # rows above which it does


def sized() -> list[object]:
    def heavy(name: str) -> bool:
        totals = index().get(name, {"totals": {"params": 0, "idle": 0}})["totals"]
        return totals["params"] + totals["idle"] > HEAVY or len(account(name).rows) > LONG

    return [pytest.param(name, marks=pytest.mark.slow) if heavy(name) else name for name in names()]


@cache
def smallest(name: str) -> int:
    """Side in pixels of the smallest square that a network takes, as its refusal of one pixel names it."""
    channels = (find(name).input or (3,))[0]
    refusal = ""
    try:
        with torch.device("meta"):
            find(name).build(input=(channels, 1, 1))
    except UserError as error:
        refusal = str(error)
    return int(re.search(r"the smallest square that does is \d+x(\d+)x\d+", refusal)[1]) if refusal else 1


def run(net: ConvNet, size: tuple[int, int]) -> Tensor:
    assert net.input is not None
    x = torch.randn(3, net.input[0], *size, generator=torch.Generator().manual_seed(0))
    for m in net.modules():
        if isinstance(m, nn.Dropout | nn.Dropout2d):
            m.p = 0.0
    out = net.train()(x)
    if hasattr(net, "forward_aux"):
        logits, aux = net.forward_aux(x)
        out = torch.stack([logits, *aux.values()]).sum(0)
    return out


@pytest.mark.parametrize("name", sized())
def test_forward_and_backward(name: str) -> None:
    torch.manual_seed(0)
    least = smallest(name)
    channels = (find(name).input or (3,))[0]
    for size in ((least, least), (least + 5 + least % 2, least + 10 + least % 2)):
        net = find(name).build(input=(channels, *size), classes=5)
        out = run(net, size)
        assert out.shape == (3, 5)
        assert out.isfinite().all()
        out.square().sum().backward()
        assert net.eval()(torch.zeros(1, channels, *size)).shape == (1, 5)
    silent = {k for k, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    assert silent == silenced(net), "a parameter gets no gradient"


def silenced(net: nn.Module) -> set[str]:
    """Parameters that rightly have no gradient but rounding: a bias whose convolution feeds batch norm."""
    return set()


@pytest.mark.parametrize("name", names())
def test_too_small_is_refused_with_the_smallest(name: str) -> None:
    least = smallest(name)
    channels = (find(name).input or (3,))[0]
    with torch.device("meta"):
        find(name).build(input=(channels, least, least))
        if least > 1:
            with pytest.raises(UserError, match=f"the smallest square that does is {channels}x{least}x{least}"):
                find(name).build(input=(channels, least - 1, least - 1))
