"""`fit` with every kind of recipe: exact resumes, averaged weights, clipping, growing drop-path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas.catalogue import find
from convatlas.data.augment import order
from convatlas.data.normalise import normalise
from convatlas.data.types import Data, MemorySplit
from convatlas.evaluation.scoring import evaluate_split
from convatlas.recipe import (
    EMA,
    SGD,
    Adam,
    AdamW,
    ConstantWarmup,
    Exponential,
    LinearWarmup,
    Lookahead,
    Muon,
    Plateau,
    Poly,
    RMSProp,
    with_epochs,
)
from convatlas.recipes import find_recipe, recipes
from convatlas.runs.folder import open_run
from convatlas.runs.record import RunRecord
from convatlas.train.fit import Stopped
from convatlas.train.loss import loss_of
from convatlas.train.optimizers import clip_, make_optimizer
from convatlas.train.schedule import rate
from tests.train.short_runs import (
    CHAIN,
    DROPPED,
    TINY,
    WRN,
    assert_equal_runs,
    at_step,
    interrupting,
    train,
    weights,
)

KINDS: dict[str, dict[str, Any]] = {
    "momentum": {},
    "rmsprop": {"optimizer": RMSProp(0.1, eps=1.0, weight_decay=1e-3, clip=0.5)},
    "adam": {"optimizer": Adam(1e-3, weight_decay=1e-3), "schedule": Poly()},
    "adamw": {"optimizer": AdamW(1e-3, weight_decay=1e-3), "schedule": Exponential(0.5, every=0.5)},
    "muon": {"optimizer": Muon(0.05, normalize=True, weight_decay=1e-3, bias_rate=2.0)},
    "slow weights": {"lookahead": Lookahead(0.9), "optimizer": replace(DROPPED.optimizer, bias_rate=2.0)},
    "warm-up": {"warmup": ConstantWarmup(0.001, error=0.88)},
    "average": {"ema": EMA(0.99), "warmup": LinearWarmup(steps=3)},
}
GOLDEN = Path(__file__).parents[1] / "goldens" / "run"


def first(split: Any, n: int) -> MemorySplit:
    return replace(split, images=split.images[:n], labels=split.labels[:n])


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, data: Data, kind: str) -> None:
    recipe = replace(DROPPED, **KINDS[kind])
    whole = train(tmp_path / "whole", data, recipe, WRN)
    for i, (epoch, step) in enumerate([(1, 2), (2, 3)]):
        with pytest.raises(Stopped):
            train(tmp_path / "run", data, recipe, WRN, resume=i > 0, on_event=interrupting(at_step(epoch, step)))
        torch.manual_seed(99)
    assert_equal_runs(train(tmp_path / "run", data, recipe, WRN, resume=True), whole)


def test_the_loop_is_a_plain_one_by_every_recipe(tmp_path: Path, data: Data) -> None:
    """RMSProp, clipped, by a polynomial rate after a warm-up in steps, the weights averaged: written out."""
    recipe = replace(
        CHAIN, optimizer=RMSProp(0.02, eps=0.01, weight_decay=0.01, clip=0.5), schedule=Poly(2.0, lr_end=0.001),
        warmup=LinearWarmup(steps=3), ema=EMA(0.9),
    )  # fmt: skip
    run = train(tmp_path, data, recipe, seed=5)

    torch.manual_seed(5)
    net = find(TINY).build(input=(1, 8, 8), classes=10, widths=(4,))
    optimizer = make_optimizer(net, recipe.optimizer)
    means = {name: t.clone() for name, t in net.state_dict().items()}
    norms = []
    for step in range(10):
        epoch, i = divmod(step, 5)
        lr = 0.02 * step / 3 if step < 3 else 0.001 + 0.019 * (1 - (step - 3) / 7) ** 2
        assert rate(recipe, step / 5, steps=5) == pytest.approx(lr)
        indices = order(72, seed=5, epoch=epoch)[16 * i : 16 * i + 16]
        x = normalise(data.train.fetch(indices, run.preprocess), run.normalizer)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        loss_of(net, x, data.train.labels[indices], recipe)[0].backward()
        norms.append(clip_(optimizer, 0.5).item())
        optimizer.step()
        keep = min(0.9, (2 + step) / (11 + step))
        for name, t in net.state_dict().items():
            means[name] = keep * means[name] + (1 - keep) * t
    assert max(norms) > 0.5  # the clipping did something

    found = weights(run)
    for name, t in net.state_dict().items():
        torch.testing.assert_close(found[name], t, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found[f"average/{name}"], means[name], rtol=1e-3, atol=1e-4)


def test_averaged_weights_are_judged_chosen_and_loaded(tmp_path: Path, data: Data) -> None:
    run = train(tmp_path, data, replace(CHAIN, ema=EMA(0.9), epochs=3, optimizer=SGD(0.1)))
    for which in ("last", "best"):
        kept, loaded = weights(run, which), run.load(which).state_dict()
        assert all(torch.equal(kept[f"average/{name}"], t) for name, t in loaded.items())
        assert not torch.equal(kept["stem.conv1.weight"], loaded["stem.conv1.weight"])  # the file has both
    scores = evaluate_split(run.load("last"), data.val, run.normalizer)
    assert scores.top1 == run.epochs()[-1]["val"]["top1"]
    assert scores.loss == pytest.approx(run.epochs()[-1]["val"]["loss"])


def test_clipping_to_almost_nothing_moves_almost_nothing(tmp_path: Path, data: Data) -> None:
    torch.manual_seed(0)
    start = find(TINY).build(input=(1, 8, 8), classes=10, widths=(4,)).state_dict()
    run = train(tmp_path, data, replace(CHAIN, optimizer=SGD(0.02, momentum=0.0, clip=1e-6), epochs=1))
    moved = torch.cat([(weights(run)[name] - t).flatten() for name, t in start.items()]).norm()
    assert moved <= 5 * 0.02 * 1e-6 * 1.1


def test_a_plateau_of_the_training_top1(tmp_path: Path, data: Data) -> None:
    """The test images are of one class that is never predicted: its top-1 stays at zero while training's rises."""
    recipe = replace(CHAIN, epochs=6, optimizer=SGD(0.05), schedule=Plateau(patience=1))
    watching = replace(recipe, schedule=Plateau(patience=1, watch="train"))
    stale = replace(data, val=replace(data.val, labels=torch.zeros_like(data.val.labels)))  # type: ignore[type-var]
    by_test = [line["lr"] for line in train(tmp_path / "test", stale, recipe).epochs()]
    by_train = [line["lr"] for line in train(tmp_path / "train", stale, watching).epochs()]
    assert by_test[-1] < 0.05
    tops = [line["train"]["top1"] for line in open_run(tmp_path / "train").epochs()]
    drops, best, expected = 0, -1.0, []
    for top1 in tops:
        expected.append(0.05 * 0.1**drops)
        drops, best = (drops, top1) if top1 > best else (min(drops + 1, 3), best)
    assert by_train == pytest.approx(expected)
    assert by_train != by_test


@pytest.mark.parametrize("bound", [1e-6, 0.6, 0.8, 1.0])
def test_a_warm_up_ends_with_the_training_error(tmp_path: Path, data: Data, bound: float) -> None:
    """At a line of the log, of which these epochs have one each, at their end."""
    recipe = replace(CHAIN, epochs=6, optimizer=SGD(0.05), warmup=ConstantWarmup(0.02, error=bound))
    lines = train(tmp_path, data, recipe).epochs()
    errors = [1 - line["train"]["top1"] for line in lines]
    warm = [any(error < bound for error in errors[:n]) for n in range(6)]
    assert [line["lr"] for line in lines] == [0.05 if it else 0.02 for it in warm]
    if bound == 0.8:
        assert len(set(warm)) == 2  # it ends on the way


def test_drop_path_grows_with_the_training(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before each step how far training is, and after a resume as well; not in the test."""
    shares: list[float] = []

    def build(record: RunRecord) -> torch.nn.Module:
        net = find(TINY).build(input=(1, 8, 8), classes=10, widths=(4,))
        net.set_progress = shares.append  # type: ignore[assignment]
        return net

    monkeypatch.setattr(RunRecord, "build", build)
    with pytest.raises(Stopped):
        train(tmp_path, data, on_event=interrupting(at_step(1, 3)))
    assert shares == [0, 0.1, 0.2]
    shares.clear()
    train(tmp_path, data, resume=True)
    assert shares == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


def test_blocks_that_every_step_drops_decay(tmp_path: Path, data: Data) -> None:
    """As in the authors' program; the others are dropped now and then. Three blocks, the last with probability 1."""
    net = (("depth", 8), ("survival", 1e-9))
    recipe = replace(CHAIN, optimizer=SGD(0.1, weight_decay=0.01), net=net)
    found = weights(train(tmp_path, data, recipe, "stochastic_depth_resnet110", seed=5))
    torch.manual_seed(5)
    start = find("stochastic_depth_resnet110").build(input=(1, 8, 8), classes=10, **dict(net)).state_dict()
    name = "stages.conv4.block1.branch.conv1.conv.weight"
    w, v = start[name].clone(), torch.zeros_like(start[name])
    for _ in range(10):
        v = 0.9 * v + 0.01 * w
        w = w - 0.1 * v
    torch.testing.assert_close(found[name], w)
    assert not torch.equal(w, start[name])


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_that_ships_trains(tmp_path: Path, data: Data, name: str) -> None:
    """Two steps of a small network in place of its own, on colour images: optimizer, rates, augmentation, average."""
    recipe = replace(find_recipe(name), batch=8, net=(("widths", (4,)),))
    few = replace(data, train=first(data.train, 16), val=first(data.val, 8))
    notes: list[str] = []
    short = replace(with_epochs(recipe, 1), optimizer=replace(recipe.optimizer, lr=min(recipe.optimizer.lr, 0.01)))
    run = train(tmp_path, few, short, input=(3, 12, 12), on_event=lambda e: notes.append(e["kind"]))
    assert notes.count("step") == 2
    found = weights(run)
    assert all(t.isfinite().all() for t in found.values())
    assert any(key.startswith("optimizer/") for key in found)
    assert any(key.startswith("average/") for key in found) == bool(recipe.ema)
