"""Steps whose loss is read later: the same run, the same weights, and a bad step found, undone and named."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convatlas.catalogue import find
from convatlas.data.augment import order
from convatlas.data.types import Data
from convatlas.machine.processes import World
from convatlas.recipe import EMA, SGD, Adam, AdamW, Lookahead, Muon, Optimizer, Recipe, RMSProp
from convatlas.runs.folder import open_run
from convatlas.train import feed, passes
from convatlas.train.divergence import Diverged, not_finite_in
from convatlas.train.events import Event
from convatlas.train.execution import Execution
from convatlas.train.fit import Stopped
from convatlas.train.loss import loss_of
from convatlas.train.meter import Meter
from convatlas.train.optimizers import make_optimizer
from convatlas.train.state import Position
from convatlas.train.train_state import Flat, TrainState
from tests.train.short_runs import CHAIN, DROPPED, WRN, assert_equal_runs, at_step, interrupting, same, train, weights

LATE = Execution(read_every=16)  # an epoch has 5 steps: read once, after its last


def test_reading_late_changes_nothing(tmp_path: Path, data: Data) -> None:
    recipe = replace(DROPPED, ema=EMA(0.9), lookahead=Lookahead(0.9))
    events: dict[str, list[Event]] = {"each": [], "late": []}
    each = train(tmp_path / "each", data, recipe, WRN, on_event=events["each"].append)
    late = train(tmp_path / "late", data, recipe, WRN, execution=LATE, on_event=events["late"].append)
    assert_equal_runs(each, late)
    assert late.record.execution["read_every"] == 16
    steps = [[(e["step"], e["batch_loss"]) for e in events[k] if e["kind"] == "step"] for k in ("each", "late")]
    assert steps[0] == steps[1]


OPTIMIZERS = [
    SGD(0.05, weight_decay=1e-3),
    RMSProp(0.01, weight_decay=1e-3),
    Adam(0.01),
    AdamW(0.01),
    Muon(0.02, weight_decay=1e-3),
    Muon(0.02, normalize=True),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.kind)
@pytest.mark.parametrize("spoilt", ["pixels", "gradient"])
def test_a_bad_step_that_is_found_later_has_changed_nothing(
    tmp_path: Path, data: Data, optimizer: Optimizer, spoilt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 3 of 5 is bad, and read after the fifth: weights, message and log are as if it had been read at once."""
    recipe = replace(DROPPED, optimizer=optimizer, lookahead=Lookahead(0.9))
    third = order(72, seed=0, epoch=0)[32:48]

    def spoiled(images: Tensor, indices: Tensor, **more: object) -> Tensor:
        seen[0] = torch.equal(indices, third)
        return augment(images, indices, **more)

    def spoiling(net: object, x: Tensor, y: Tensor, recipe: Recipe, _: None) -> tuple[Tensor, Tensor]:
        if seen[0] and spoilt == "pixels":
            x[4, 0, 3, 3] = math.nan
        loss, logits = loss_of(net, x, y, recipe)
        if seen[0] and spoilt == "gradient":
            weight = next(nets[-1].net.parameters())
            loss = loss + 0 * (weight - weight.detach()).sum().sqrt()
        return loss, logits

    class Watched(TrainState):
        def __init__(self, *args: object):
            super().__init__(*args)
            nets.append(self)

    augment, seen, nets = feed.augment, [False], []
    monkeypatch.setattr(feed, "augment", spoiled)
    monkeypatch.setattr(passes, "loss_of", spoiling)
    monkeypatch.setattr("convatlas.train.fit.TrainState", Watched)
    found = {}
    for name, execution in (("each", Execution()), ("late", LATE)):
        with pytest.raises(Diverged) as error:
            train(tmp_path / name, data, recipe, WRN, execution=execution)
        found[name] = str(error.value), json.dumps(open_run(tmp_path / name).log())
    assert found["each"] == found["late"]
    assert "at step 3 of epoch 1" in found["late"][0]
    assert str(third[4].item()) in found["late"][0]
    each, late = (state.net for state in nets)
    assert all(torch.equal(a, b) for a, b in zip(each.parameters(), late.parameters(), strict=True))
    assert all(p.isfinite().all() for p in late.parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.kind)
def test_an_optimizer_told_of_a_bad_step_changes_nothing(optimizer: Optimizer) -> None:
    torch.manual_seed(0)
    net, bad = find("chain_n1_m1_k0").build(input=(1, 8, 8), classes=10, widths=(4,)), torch.zeros(())
    guarded = make_optimizer(net, optimizer, bad)

    def step(value: float) -> None:
        for p in net.parameters():
            p.grad = torch.full_like(p, value)
        guarded.step()

    step(0.5)
    before = [p.clone() for p in net.parameters()]
    state = [{k: v.clone() for k, v in guarded.state[p].items()} for p in net.parameters()]
    bad.fill_(1)
    step(math.nan)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    for p, kept in zip(net.parameters(), state, strict=True):
        assert all(torch.equal(v, kept[k]) for k, v in guarded.state[p].items())
    bad.zero_()
    step(0.5)
    assert not any(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("config", [
    RMSProp(0.01, momentum=0.9, weight_decay=1e-3), Muon(0.02, weight_decay=1e-3), Muon(0.02, normalize=True)
], ids=lambda o: o.kind)  # fmt: skip
def test_a_guarded_optimizer_is_the_unguarded_one_bit_for_bit(config: Optimizer) -> None:
    nets = []
    for bad in (None, torch.zeros(())):
        torch.manual_seed(0)
        net = find("chain_n1_m1_k0").build(input=(1, 8, 8), classes=10, widths=(4,))
        optimizer = make_optimizer(net, config, bad)
        for seed in range(5):
            for p in net.parameters():
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
            optimizer.step()
        nets.append(net)
    assert all(torch.equal(a, b) for a, b in zip(*(net.parameters() for net in nets), strict=True))


def test_a_meter_adds_up_to_the_bad_step() -> None:
    at, bad, weight = Position(), torch.zeros(()), nn.Parameter(torch.zeros(3))
    meter = Meter(at, World(), bad, {"head": [weight]})
    good, logits, labels = torch.tensor([2.0, 2.0, 1.0]), torch.eye(3), torch.tensor([0, 1, 1])
    weight.grad = good
    meter.add(meter.sums(torch.tensor(0.5), logits, labels))
    assert bad == 0
    weight.grad = torch.tensor([1.0, math.inf, 1.0])
    meter.add(meter.sums(torch.tensor(1.0), logits, labels))
    assert bad == 1
    weight.grad = good
    meter.add(meter.sums(torch.tensor(1.0), logits, labels))
    assert bad == 1
    assert meter.read() == ([0.5], 1)
    assert (at.sums.images, at.sums.loss, at.sums.hits) == (3, 1.5, 2)
    assert at.sums.norms() == {"head": {"mean": 3, "max": 3}}
    assert meter.read() == ([], None)


def test_finite_although_the_sum_is_not() -> None:
    huge = torch.full((4,), 3e38)
    assert not_finite_in([huge, torch.ones(2)]) == 0
    for value in (math.nan, math.inf, -math.inf):
        assert not_finite_in([huge, torch.tensor([1.0, value])]) == 1


def test_parts_of_a_flat_tensor_are_kept_and_put_back() -> None:
    parts = [torch.arange(3.0), torch.full((2, 2), 7.0), torch.tensor(5.0)]
    names = [id(part) for part in parts]
    flat, bad = Flat(parts), torch.zeros(())
    assert [id(part) for part in parts] == names
    parts[0].add_(1)
    flat.keep(bad)
    bad.fill_(1)
    parts[1].fill_(math.nan)
    flat.keep(bad)  # keeps what was there before the bad step
    flat.put_back()
    assert parts[0].tolist() == [1, 2, 3]
    assert (parts[1] == 7).all()
    assert parts[2] == 5


def test_a_signal_between_two_readings_stops_at_the_next(tmp_path: Path, data: Data) -> None:
    with pytest.raises(Stopped, match="after step 4 of epoch 1"):
        train(tmp_path / "a", data, CHAIN, execution=Execution(read_every=2), on_event=interrupting(at_step(1, 3)))
    resumed = train(tmp_path / "a", data, CHAIN, resume=True)
    assert same(weights(resumed), weights(train(tmp_path / "b", data, CHAIN)))


def test_a_pass_interrupted_before_the_reading_loses_no_step(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]

    def interrupted(*args: Any) -> tuple[Tensor, Tensor]:
        calls[0] += 1
        if calls[0] == 4:
            signal.raise_signal(signal.SIGTERM)
        return loss_of(*args)

    with monkeypatch.context() as patch:
        patch.setattr(passes, "loss_of", interrupted)
        with pytest.raises(Stopped, match="stopped by SIGTERM in step 4 of epoch 1"):
            train(tmp_path / "a", data, DROPPED, WRN, execution=LATE)
    resumed = train(tmp_path / "a", data, DROPPED, WRN, resume=True)
    assert_equal_runs(resumed, train(tmp_path / "b", data, DROPPED, WRN))
