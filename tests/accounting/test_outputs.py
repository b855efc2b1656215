"""Whatever a module returns, or nothing: what it computes is in a row."""

from __future__ import annotations

from collections import UserDict, deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from convatlas.accounting import account
from convatlas.accounting.layer_graph import layer_graph
from convatlas.accounting.memory.predict import memory
from convatlas.errors import UserError


@dataclass
class Out:
    y: Tensor
    name: str = "out"


@dataclass(slots=True)
class SlimOut:
    y: Tensor


class NamedOut(NamedTuple):
    y: Tensor


class DictOut(dict[str, Any]):
    """torch's own functions take it for a leaf."""


class PlainOut:
    def __init__(self, y: Tensor):
        self.y = [{"deep": y}]


class Circle(PlainOut):
    def __init__(self, y: Tensor):
        super().__init__(y)
        self.me = self


HOW = {
    "tensor": lambda y: y,
    "dataclass": Out,
    "dataclass with slots": SlimOut,
    "namedtuple": NamedOut,
    "namespace": lambda y: SimpleNamespace(y=y),
    "mapping": lambda y: UserDict(y=y),
    "dict of a class": lambda y: DictOut(y=y),
    "deque": lambda y: deque([y]),
    "object": PlainOut,
    "object that holds itself": Circle,
}


class Leaf(nn.Module):
    def __init__(self, how: Any):
        super().__init__()
        self.weight, self.how, self.log = nn.Parameter(torch.ones(8, 8)), how, list[Tensor]()

    def forward(self, x: Tensor) -> Any:
        y = x @ self.weight
        self.log.append(y)
        return self.how(y)


class Net(nn.Module):
    """16 multiply-adds for the class, 64 within the leaf."""

    def __init__(self, how: Any):
        super().__init__()
        self.inner, self.classes = Leaf(how), nn.Linear(8, 2, bias=False)

    def forward(self, x: Tensor) -> Any:
        self.inner(x)
        return self.inner.how(self.classes(self.inner.log.pop()))


@pytest.mark.parametrize("what", HOW)
def test_what_returns_anything_has_its_row(what: str) -> None:
    net = Net(HOW[what])
    counted = account(net, (8,), strict=True)
    assert [(r.path, r.params, r.macs, r.shape) for r in counted.rows] == [
        ("inner", 64, 64, (8,)),
        ("classes", 16, 16, (2,)),
    ]
    assert counted.totals.macs == 80
    assert [(e.source, e.target) for e in layer_graph(counted, "leaf").edges] == [(-1, 0), (0, 1), (1, 2)]
    if HOW[what] is Circle:  # whose tensors are freed late
        return
    plain = memory(Net(HOW["tensor"]), (8,), batch=2)
    assert memory(net, (8,), batch=2).training == plain.training


def test_what_returns_nothing_has_its_row() -> None:
    net = Net(lambda y: None)
    counted = account(net, (8,), strict=True)
    assert [(r.path, r.macs, r.shape) for r in counted.rows] == [("inner", 64, (8,)), ("classes", 16, (2,))]
    with pytest.raises(UserError, match="returns no numbers to train on"):
        memory(net, (8,), batch=2)


@torch.library.custom_op("convatlas_tests::note", mutates_args={"into"})
def note(into: Tensor, x: Tensor) -> None:
    into.add_(x)


@note.register_fake
def _(into: Tensor, x: Tensor) -> None:
    return None


class Notes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        into = torch.zeros_like(x)
        torch.ops.convatlas_tests.note(into, x)
        return into


def test_an_operator_that_returns_nothing_is_listed_as_uncounted() -> None:
    assert account(Notes(), (8,)).uncounted == ("Notes: convatlas_tests.note",)
