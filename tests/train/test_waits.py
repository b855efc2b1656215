"""A step on a GPU waits for nothing: tried on the meta device, which has no values that anything could wait for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convatlas.catalogue import find
from convatlas.data.augment import colour, policies, spatial
from convatlas.data.normalise import factor_and_shift
from convatlas.data.resample import cut_and_scale
from convatlas.data.types import Data
from convatlas.machine.processes import World
from convatlas.recipe import Muon, Optimizer, RMSProp
from convatlas.runs.folder import Run
from convatlas.train.events import quiet
from convatlas.train.execution import Execution
from convatlas.train.feed import Batch, Feed
from convatlas.train.job import Job
from convatlas.train.optimizers import make_optimizer, set_rate
from tests.train.short_runs import DROPPED, WRN, train

ELSEWHERE = torch.device("meta")


class Waits(TorchDispatchMode):
    """Notes the operations that bring values from the device, which would wait for it, or to it, which may wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        from_device = any(t.device == ELSEWHERE for t in given)
        leaves = from_device and any(t.device != ELSEWHERE for t in made)
        arrives = any(t.device == ELSEWHERE for t in made) and any(t.device != ELSEWHERE and t.ndim for t in given)
        if leaves or arrives:
            self.found.add(str(func))
        return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Run:
    return train(tmp_path_factory.mktemp("run"), data, replace(DROPPED, epochs=1), WRN)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What is kept for a device is forgotten after the test."""
    yield
    for cached in (
        factor_and_shift,
        spatial.colour,
        colour.orders,
        colour.axes_on,
        policies.tabulated,
        policies.columns,
    ):
        cached.cache_clear()


def prepare(run: Run, data: Data, ops: tuple[str, ...]) -> set[str]:
    """The operations that wait while a second batch is prepared, once all tables are there."""
    execution = replace(Execution.from_json(run.record.execution), resident=False)
    job = Job(find(WRN), data, replace(run.recipe, augment=ops), (1, 8, 8), 0, ELSEWHERE, execution, World(), quiet)
    feed, at = Feed(job, run), torch.arange(16, device=ELSEWHERE)
    images = torch.zeros(16, 1, 8, 8, dtype=torch.uint8, device=ELSEWHERE)
    mixes = (at, at.double()) if "mix" in ops[-1] else (None, None)
    batch = Batch(16, at, torch.zeros((), dtype=torch.int64, device=ELSEWHERE), images, None, *mixes)
    feed.prepared(batch)
    with Waits() as waits:
        ready = feed.prepared(batch)
    assert all(t.device == ELSEWHERE for t in ready)
    return waits.found


AUGMENTED = [
    ("pad_crop:1", "flip", "cutout:2", "mixup:0.2"),
    ("reflect_crop:1", "alternate_flip", "cutmix:1"),
    ("photometric:0.4",),
    ("autoaugment_cifar10",),
    ("randaugment:2:9",),
    ("trivialaugment",),
]


@pytest.mark.parametrize("ops", AUGMENTED, ids=lambda ops: ops[0])
def test_no_augmentation_waits(run: Run, data: Data, forgotten: None, ops: tuple[str, ...]) -> None:
    assert prepare(run, data, ops) == set()


def test_what_waits_is_found(run: Run, data: Data, forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convatlas.train.feed.augment", lambda images, indices, **more: images * images.sum().item())
    with pytest.raises(RuntimeError, match="item"):
        prepare(run, data, ("flip",))
    table = torch.arange(16)
    monkeypatch.setattr(
        "convatlas.train.feed.augment", lambda images, at, **more: images * table.to(at)[:, None, None, None]
    )
    assert prepare(run, data, ("flip",)) == {"aten._to_copy.default"}


def test_crops_on_the_device_wait_for_nothing() -> None:
    images = torch.zeros(16, 3, 40, 50, dtype=torch.uint8, device=ELSEWHERE)
    boxes = torch.zeros(16, 4, dtype=torch.int64, device=ELSEWHERE)
    with Waits() as waits:
        assert cut_and_scale(images, boxes, (24, 24), "bicubic").shape == (16, 3, 24, 24)
    assert waits.found == set()


OPTIMIZERS = [RMSProp(0.01, weight_decay=1e-3), Muon(0.02, weight_decay=1e-3), Muon(0.02, normalize=True)]


@pytest.mark.parametrize("config", OPTIMIZERS, ids=lambda o: o.kind)
def test_no_optimizer_of_ours_waits(config: Optimizer) -> None:
    with ELSEWHERE:
        net = find("chain_n1_m1_k0").build(input=(1, 8, 8), classes=10, widths=(4,))
    optimizer = make_optimizer(net, config, torch.zeros((), device=ELSEWHERE))
    rates = [group["lr"] for group in optimizer.param_groups]
    assert all(rate.device == ELSEWHERE for rate in rates)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    with Waits() as waits:
        set_rate(optimizer, 0.5)
        optimizer.step()
    assert waits.found == set()
    assert all(a is group["lr"] for a, group in zip(rates, optimizer.param_groups, strict=True))  # written into


@pytest.mark.parametrize("config", OPTIMIZERS, ids=lambda o: o.kind)
def test_a_rate_on_the_device_is_the_rate(config: Optimizer) -> None:
    weights = []
    for on_device in (False, True):
        torch.manual_seed(0)
        net = find("chain_n1_m1_k0").build(input=(1, 8, 8), classes=10, widths=(4,))
        optimizer = make_optimizer(net, config)
        if on_device:
            for group in optimizer.param_groups:
                group["lr"] = torch.zeros(())
        for step in range(4):
            for p in net.parameters():
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
            set_rate(optimizer, 0.1 / (step + 1))
            optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    torch.testing.assert_close(*weights)
