"""memory() against torch's own tracker, which watches a step that really runs: peaks equal to the byte."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn import functional as F

from convatlas.accounting.memory.predict import memory
from convatlas.accounting.memory.watch import FACTORIES
from convatlas.catalogue import find

N = 5  # images


def mine() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.GroupNorm(2, 8), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 49, 10)
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "lenet5": (lambda: find("lenet5").build(), (1, 32, 32), "sgd"),
    "resnet20": (lambda: find("resnet20").build(), (3, 32, 32), "sgd"),
    "mobilenet_v2": (lambda: find("mobilenet_v2").build(), (3, 64, 64), "rmsprop"),
    "densenet_40_12": (lambda: find("densenet_40_12").build(), (3, 32, 32), "adam"),
    "squeezenet1_1": (lambda: find("squeezenet1_1").build(), (3, 64, 64), "adam"),
    "se_resnet20": (lambda: find("se_resnet20").build(), (3, 32, 32), "rmsprop"),
    "one's own": (mine, (3, 32, 32), "sgd"),
}


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    """What hangs in a reference cycle is freed at any time, or never: here never."""
    gc.disable()
    yield
    gc.enable()


def peak(tracker: MemTracker) -> int:
    (snapshot,) = tracker.get_tracker_snapshot("peak").values()
    return int(snapshot["Total"])


def trained(net: nn.Module, x: torch.Tensor, optimizer: str) -> int:
    """The peak of a step, with the optimizer's state in place."""
    parameters: Any = list(net.train().parameters())
    steps = FACTORIES[optimizer](parameters)
    for p in parameters:
        p.grad = torch.zeros_like(p)
    steps.step()
    steps.zero_grad(set_to_none=True)
    labels = torch.zeros(len(x), dtype=torch.long)
    tracker = MemTracker()
    tracker.track_external(net, steps, x, labels)
    with tracker:
        F.cross_entropy(net(x), labels).backward()
        steps.step()
    return peak(tracker)


def inferred(net: nn.Module, x: torch.Tensor) -> int:
    tracker = MemTracker()
    tracker.track_external(net, x)
    with torch.no_grad(), tracker:
        net.eval()(x)
    return peak(tracker)


@pytest.mark.parametrize("name", NETWORKS)
def test_peaks_are_those_that_torch_s_tracker_sees(name: str) -> None:
    """Predicted without running anything, and from other batches: of 9 and 10 images."""
    build, shape, optimizer = NETWORKS[name]
    predicted = memory(build(), shape, batch=9, optimizer=optimizer)
    x = torch.randn(N, *shape)
    assert predicted.training.of(N) == trained(build(), x, optimizer)
    assert predicted.inference.of(N) == inferred(build(), x)
