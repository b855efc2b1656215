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
