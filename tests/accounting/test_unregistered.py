"""Parameters in plain lists, dicts and objects are said; `forward` called directly is noted; complex products count."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from convatlas.accounting import account
from convatlas.accounting.memory.predict import memory
from convatlas.cli import main
from convatlas.report.account import text


def flops(net: nn.Module, x: Tensor, training: bool = False) -> int:
    """As torch counts them."""
    with FlopCounterMode(display=False) as counter:
        out = net.eval()(x)
        if training:
            out.sum().backward()
    return counter.get_total_flops()


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


class Holds(nn.Module):
    """Two linear layers, the first of which is held by something that is not a module."""

    def __init__(self, hold: Callable[[nn.Linear], Any]):
        super().__init__()
        layer = nn.Linear(12, 20)
        self.held, self.last = hold(layer), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(taken(self.held)(x))


def taken(held: Any) -> Any:
    """The layer, or its function, out of what holds it."""
    while not callable(held):
        if isinstance(held, SimpleNamespace):
            held = next(iter(vars(held).values()))
        elif isinstance(held, dict):
            held = list(held.values())
        elif isinstance(held[0], Tensor):
            return partial(F.linear, weight=held[0], bias=held[1])
        else:
            held = held[0]
    return held


def closed_over(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    return lambda x: layer(x)


HELD: dict[str, Callable[[nn.Linear], Any]] = {
    "a list": lambda layer: [layer],
    "a dict of tuples": lambda layer: {"first": (layer,)},
    "an object": lambda layer: SimpleNamespace(layer=layer),
    "a closure": closed_over,
    "a method": lambda layer: layer.forward,
    "a partial function": lambda layer: partial(F.linear, weight=layer.weight, bias=layer.bias),
    "parameters in a list": lambda layer: [layer.weight, layer.bias],
    "tensors that take a gradient": lambda layer: [p.detach().requires_grad_() for p in layer.parameters()],
    "a block in a list": lambda layer: [nn.Sequential(layer)],
}


@pytest.mark.parametrize("how", HELD)
def test_parameters_that_are_not_registered_are_said(how: str) -> None:
    net = Holds(HELD[how])
    counted = account(net, (12,), strict=True)
    assert counted.unregistered == (("held", 260),)
    assert counted.totals.params == parameters(net) == 42, "as torch lists them"
    assert 2 * counted.totals.macs == flops(net, torch.zeros(1, 12)) == 2 * 280
    assert counted.depth == 2
    assert 2 * counted.totals.training_macs == flops(net, torch.zeros(1, 12), training=True) == 2 * (280 + 240 + 2 * 40)
    assert "held: 260 parameters are not registered" in text(counted)
    assert net(torch.zeros(1, 12)).device.type == "cpu", "it still runs"


def test_they_have_rows_and_memory() -> None:
    net = Holds(HELD["a list"])
    assert [(r.path, r.op, r.macs) for r in account(net, (12,)).rows] == [
        ("held.0", "Linear", 240),
        ("last", "Linear", 40),
    ]
    assert memory(net, (12,), batch=2).parameters == 4 * (260 + 42), "they lie in memory, too"


def test_statistics_of_an_unregistered_batch_norm_stay() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held, self.conv = [nn.BatchNorm2d(3)], nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.held[0](x))

    net = Net().train()
    before = {k: v.clone() for k, v in net.held[0].state_dict().items()}
    assert account(net, (3, 8, 8), training=True).unregistered == (("held", 6),)
    memory(net, (3, 8, 8), batch=2)
    assert all(torch.equal(v, before[k]) for k, v in net.held[0].state_dict().items())
    assert net.held[0].weight.device.type == "cpu"


def test_what_is_registered_elsewhere_is_not_missing() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.order, self.shared = [self.a], [self.a.weight]
            self.me = [self]

        def forward(self, x: Tensor) -> Tensor:
            return self.order[0](x)

    assert account(Net(), (4,)).unregistered == ()
    assert account("resnet18").unregistered == ()


MINE = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.last = [nn.Linear(12, 20)], nn.Linear(20, 2)
    def forward(self, x):
        return self.last(self.layers[0](x.flatten(1)))
"""


def test_show_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    assert main(["show", f"{tmp_path}/mine.py:Net", "--input", "12x1x1"]) in (0, None)
    assert "layers: 260 parameters are not registered" in capsys.readouterr().out
    assert main(["show", f"{tmp_path}/mine.py:Net", "--input", "12x1x1", "--json"]) in (0, None)
    assert json.loads(capsys.readouterr().out)["unregistered"] == {"layers": 260}


class Direct(nn.Module):
    """Calls `forward` of its modules, for which torch runs no hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.rest = nn.Linear(12, 20), nn.Sequential(nn.Linear(20, 5), nn.ReLU())
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return self.rest.forward(self.fc.forward(self.fc.forward(x)[:, :12]))


def test_modules_are_noted_whose_forward_is_called() -> None:
    net = Direct()
    counted = account(net, (12,), batch=2, strict=True)
    assert [(r.path, r.op, r.params, r.macs) for r in counted.rows] == [
        ("fc", "Linear", 260, 480),
        ("fc", "Linear", 0, 480),
        ("rest.0", "Linear", 105, 200),
        ("rest.1", "ReLU", 0, 0),
    ]
    assert 2 * counted.totals.macs == flops(net, torch.zeros(2, 12))
    assert (counted.depth, net.seen - 1) == (3, 0), "torch's counter ran it once"
    assert not any("forward" in vars(m) for m in net.modules())


def test_a_forward_that_was_replaced_is_called_and_stays() -> None:
    net = nn.Sequential(nn.Linear(12, 20), nn.Linear(20, 5))
    own = net[0].forward
    mine = net[0].forward = lambda x: own(x).relu()  # type: ignore[method-assign, assignment]
    counted = account(net, (12,))
    assert (counted.totals.macs, counted.totals.params, counted.depth) == (340, 365, 2)
    assert net[0].forward is mine
    assert "forward" not in vars(net[1])


COMPLEX: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "linear": (nn.Linear(12, 20, dtype=torch.complex64), (12,), 240),
    "a convolution": (nn.Conv2d(3, 4, 3, dtype=torch.complex64), (3, 8, 8), 3 * 36 * 4 * 27),
    "transposed": (nn.ConvTranspose2d(3, 4, 3, 2, dtype=torch.complex64), (3, 8, 8), 3 * 64 * 4 * 27),
    "of signals": (nn.Conv1d(4, 4, 3, bias=False, dtype=torch.complex128), (4, 8), 3 * 6 * 4 * 12),
}


@pytest.mark.parametrize("what", COMPLEX)
def test_complex_products_count_as_torch_counts_them(what: str) -> None:
    """One for each product of a matrix; a convolution is three real ones."""
    net, shape, macs = COMPLEX[what]
    counted = account(net, shape, batch=2, strict=True)
    assert counted.totals.macs == 2 * macs
    assert counted.depth == 1
    x = torch.zeros(2, *shape, dtype=next(net.parameters()).dtype)
    with FlopCounterMode(display=False) as counter:
        out = net(x)
    assert counter.get_total_flops() == 4 * macs
    with counter:
        torch.view_as_real(out).sum().backward()
    assert 2 * counted.totals.training_macs == 4 * macs + counter.get_total_flops()
    assert memory(net, shape, batch=2).gradients == sum(p.numel() * p.itemsize for p in net.parameters())
