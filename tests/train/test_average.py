"""The moving average of the weights, against TensorFlow's formula by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convatlas.catalogue import find
from convatlas.runs.checkpoint import averaged
from convatlas.train.average import MovingAverage


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4, 5))


@pytest.mark.parametrize("decay", [0.9999, 0.5, 0.0])
def test_it_is_tensorflows(decay: float) -> None:
    """variable -= (1 - min(decay, (1 + n) / (10 + n))) (variable - value); batch norm's statistics among them."""
    net = small()
    average = MovingAverage(net, decay)
    by_hand = {name: t.double().clone() for name, t in net.state_dict().items()}
    for n in range(1, 31):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        net(torch.randn(8, 3, 3, 3) + n)  # moves batch norm's running mean
        average.update(n)
        for name, value in net.state_dict().items():
            by_hand[name] -= (1 - min(decay, (1 + n) / (10 + n))) * (by_hand[name] - value)
    found = averaged(average.tensors())
    assert found.keys() == net.state_dict().keys()
    for name, value in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert found[name] == value == 30
        else:
            torch.testing.assert_close(found[name].double(), by_hand[name], rtol=1e-4, atol=1e-5)
            assert torch.equal(found[name], value) == (decay == 0.0)


def test_the_averaged_network_is_judged_not_trained() -> None:
    net = small()
    average = MovingAverage(net, 0.9)
    assert not any(m.training for m in average.net.modules())
    assert net.training
    x = torch.randn(8, 3, 3, 3)
    assert torch.equal(average.net(x), average.net(x))  # no dropout
    assert not average.net(x).requires_grad
    mine = {t.data_ptr() for t in average.net.state_dict().values()}
    assert not mine & {t.data_ptr() for t in net.state_dict().values()}


def test_what_a_checkpoint_holds_comes_back() -> None:
    net = small()
    average = MovingAverage(net, 0.9)
    with torch.no_grad():
        net[0].weight.add_(1)
    average.update(100)
    kept = {
        name: t.clone() for name, t in {**net.state_dict(), **average.tensors(), "optimizer/a/b": net[0].bias}.items()
    }
    again = MovingAverage(small(), 0.9)
    again.restore(kept)
    assert all(torch.equal(a, b) for a, b in zip(again.tensors().values(), average.tensors().values(), strict=True))
    assert torch.equal(averaged(kept)["0.weight"], average.net[0].weight)
    plain = {name: t for name, t in kept.items() if not name.startswith("average/")}
    assert torch.equal(averaged(plain)["0.weight"], net[0].weight)
    assert averaged(plain).keys() == net.state_dict().keys()


def test_it_keeps_the_layout_and_the_kind_of_every_tensor() -> None:
    net = find("wrn16_4").build(depth=10, width=1, classes=10, channels=1).to(memory_format=torch.channels_last)
    average = MovingAverage(net, 0.9)
    average.update(1)
    for mine, theirs in zip(average.net.state_dict().values(), net.state_dict().values(), strict=True):
        assert (mine.stride(), mine.dtype) == (theirs.stride(), theirs.dtype)
