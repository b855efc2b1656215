"""Nothing that a module holds is changed by counting it, whatever holds it; compiled parts are counted, too."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convatlas.accounting import account
from convatlas.accounting.memory.predict import memory

COMPILED: dict[str, Callable[[nn.Module], Any]] = {
    "scripted": torch.jit.script,
    "traced": lambda m: torch.jit.trace(m, torch.zeros(1, 3, 8, 8)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", COMPILED)
def test_compiled_parts_are_counted_and_keep_their_weights(how: str) -> None:
    inner = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    net = nn.Sequential(nn.Sequential(COMPILED[how](inner)), nn.Conv2d(8, 1, 1)).train()
    before = {k: (t, t.clone()) for k, t in net.state_dict(keep_vars=True).items()}
    modes = [m.training for m in net.modules()]
    counted = account(net, input=(3, 8, 8), strict=True)
    assert counted.totals.macs == 36 * 8 * 27 + 36 * 8 == 7776 + 288
    assert counted.totals.params == sum(p.numel() for p in net.parameters())
    assert counted.rows[0].kernel == (3, 3)
    assert counted.rows[0].receptive_field == (3, 3)
    memory(net, (3, 8, 8), batch=2)
    assert [m.training for m in net.modules()] == modes
    after = net.state_dict(keep_vars=True)
    assert list(after) == list(before)
    for k, (t, values) in before.items():
        assert after[k] is t
        assert torch.equal(t, values)
    assert torch.isfinite(net(torch.rand(2, 3, 8, 8))).all()


class Counts(nn.Module):
    """Compiled, with state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.calls = nn.Linear(4, 4), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.fc(x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_part_s_numbers_are_put_back() -> None:
    net = nn.Sequential(torch.jit.script(Counts()))
    account(net, input=(4,))
    assert net[0].calls == 0
    net(torch.zeros(1, 4))
    assert net[0].calls == 1


class Cache:
    """Of the keys of an attention: a plain object."""

    of_all: tuple[Any, ...] = ()

    def __init__(self) -> None:
        self.keys: Any = None

    def update(self, keys: Tensor) -> Tensor:
        self.keys = keys if self.keys is None else torch.cat([self.keys, keys], 1)
        type(self).of_all += (keys,)
        return self.keys


class Slotted:
    __slots__ = ("kept", "last")

    def __init__(self) -> None:
        self.kept: list[Tensor] = []


class Keeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.queue: deque[Any] = deque([1, 2], maxlen=2)
        self.names, self.nested, self.pair = {"a"}, {"deep": [{"er": [0]}]}, (["first"], 1)
        self.cache, self.space, self.slotted = Cache(), SimpleNamespace(inner=SimpleNamespace(x=None)), Slotted()
        self.rng, self.np_rng, self.torch_rng = random.Random(0), np.random.default_rng(0), torch.Generator()
        self.table, self.steps = np.zeros(3), torch.zeros(())
        found: list[Tensor] = []
        self.note = found.append
        self.counter = counter()

    def forward(self, x: Tensor, seen: list[Any] = []) -> Tensor:  # noqa: B006
        x = self.fc(x)
        self.queue.append(x)
        self.names.add("b")
        self.nested["deep"][0]["er"].append(x)
        self.nested["new"] = []
        self.pair[0].append("second")
        self.cache.update(x[:, None])
        self.space.inner.x = x
        self.slotted.kept.append(x)
        self.slotted.last = x
        self.rng.random(), self.np_rng.random(), torch.rand(1, generator=self.torch_rng)
        self.table += 1
        self.steps += 1
        self.note(x)
        self.counter()
        seen.append(x)
        self.register_forward_hook(lambda *call: None)
        return x


def counter() -> Callable[[], int]:
    calls = 0

    def count() -> int:
        nonlocal calls
        calls += 1
        return calls

    return count


def everything(net: Keeps) -> str:
    held = net.queue, net.names, net.nested, net.pair, net.cache.keys, Cache.of_all, net.space, net.slotted.kept
    drawn = net.rng.getstate(), net.np_rng.bit_generator.state, net.torch_rng.get_state()
    cell = (net.counter.__closure__ or ())[0].cell_contents  # type: ignore[attr-defined]
    late = hasattr(net.slotted, "last"), len(net._forward_hooks), Keeps.forward.__defaults__
    return repr((held, drawn, cell, late, net.table, net.steps, net.note.__self__))  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", [account, memory])
def test_what_is_kept_anywhere_is_put_back(how: Callable[..., Any]) -> None:
    net = Keeps()
    queue, before = net.queue, everything(net)
    how(net, (4,))
    assert everything(net) == before
    assert net.queue is queue
    assert net(torch.zeros(1, 4)).device.type == "cpu"
    assert net.cache.keys.shape == (1, 1, 4), "it starts empty, and on the CPU"


class Asks(nn.Module):
    """Computes only if its tensors are what they were before."""

    def __init__(self, ask: Callable[[Any], bool]):
        super().__init__()
        self.ask = ask
        self.w, self.frozen = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(4), requires_grad=False)
        self.mine, self.w.scale = Mine(torch.ones(1)), 2
        self.register_buffer("mean", torch.zeros(1))
        self.kept = nn.Buffer(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.conv2d(x, self.w, self.frozen) * self.mine if self.ask(self) else x


class Mine(nn.Parameter):
    def doubled(self) -> Tensor:
        return self * 2


ASKED: dict[str, Callable[[Any], bool]] = {
    "is a parameter": lambda m: isinstance(m.w, nn.Parameter) and not isinstance(m.mean, nn.Parameter),
    "is of its class": lambda m: type(m.mine) is Mine and m.mine.doubled().requires_grad,
    "is a buffer": lambda m: isinstance(m.kept, nn.Buffer) and not isinstance(m.w, nn.Buffer),
    "takes a gradient": lambda m: m.w.requires_grad and not m.frozen.requires_grad and not m.mean.requires_grad,
    "is a leaf": lambda m: m.w.is_leaf and not (m.w * 2).is_leaf,
    "gives a gradient": lambda m: (m.w * m.mean).requires_grad and not (m.frozen * m.mean).requires_grad,
    "has an attribute": lambda m: m.w.scale == 2,
    "is listed": lambda m: len(list(m.parameters())) == 3 and m.state_dict(keep_vars=True)["w"] is m.w,
}


@pytest.mark.parametrize("what", ASKED)
def test_stand_ins_answer_as_the_originals(what: str) -> None:
    net = Asks(ASKED[what])
    w, values = net.w, net.w.detach().clone()
    counted = account(net, (3, 8, 8))
    assert counted.totals.macs == 36 * 4 * 27
    assert counted.totals.params == 108 + 4 + 1
    assert counted.totals.training_macs == 2 * counted.totals.macs, "of the weights; the image takes none"
    if what != "is of its class":  # on fake tensors, which have a class of their own
        assert memory(net, (3, 8, 8), batch=2).gradients == 4 * (108 + 1)
    assert net.w is w
    assert torch.equal(net.w, values)


def on_the_cpu(m: Any) -> bool:
    return isinstance(m.w, nn.Parameter) and m.w.requires_grad and (m.w * torch.ones(1)).requires_grad


def test_stand_ins_on_the_cpu_answer_as_the_originals() -> None:
    assert account(Asks(on_the_cpu), (3, 8, 8)).totals.training_macs == 2 * 36 * 4 * 27


def test_what_runs_without_gradients_only_is_counted() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            self.fc.weight.clamp_(-1, 1)
            return self.fc(x)

    net = InPlace()
    assert account(net, (4,)).totals.macs == 16
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        net(torch.zeros(1, 4))
