"""Norms of the loss's gradient by stage: those of autograd by hand, and a training that they change nothing of."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from convatlas.data.augment import order
from convatlas.data.normalise import normalise
from convatlas.data.types import Data
from convatlas.recipe import SGD, Constant, Tuning
from convatlas.runs import checkpoint
from convatlas.runs.folder import Run
from convatlas.train import divergence, meter
from convatlas.train.divergence import PIECE, norms
from convatlas.train.execution import Execution
from convatlas.train.state import RunningMeans
from tests.train.short_runs import CHAIN, DROPPED, WRN, train

PLAIN = "wrn28_10"  # without dropout
CLIPPED = replace(
    CHAIN,
    optimizer=SGD(0.1, momentum=0.5, weight_decay=1e-3, clip=0.05),
    schedule=Constant(),
    net=(("depth", 10), ("width", 1)),
)


def stage_of(name: str) -> str:
    first, second, *_ = name.split(".")
    return f"{first}.{second}" if first == "stages" else first


def by_hand(run: Run, data: Data) -> list[dict[str, list[float]]]:
    """Of each epoch, the norms of each stage's gradient in its steps, by a training of a few lines of torch."""
    torch.manual_seed(run.record.seed)
    net = run.record.build().train()
    config = run.recipe.optimizer
    momenta = [torch.zeros_like(p) for p in net.parameters()]
    epochs = []
    for epoch in range(run.recipe.epochs):
        found = defaultdict(list)
        for which in order(len(data.train), seed=0, epoch=epoch).split(run.recipe.batch):
            x = normalise(data.train.fetch(which, run.preprocess), run.normalizer)
            loss = F.cross_entropy(net(x), data.train.labels[which])
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            squares = defaultdict(float)
            for (name, _), gradient in zip(net.named_parameters(), gradients, strict=True):
                squares[stage_of(name)] += float((gradient.numpy().astype(np.float64) ** 2).sum())
            for stage, square in squares.items():
                found[stage].append(square**0.5)
            with torch.no_grad():
                penalised = [g + config.weight_decay * p for g, p in zip(gradients, net.parameters(), strict=True)]
                total = sum(g.double().square().sum() for g in penalised).sqrt().item()
                for p, gradient, momentum in zip(net.parameters(), penalised, momenta, strict=True):
                    momentum.mul_(config.momentum).add_(gradient * min(1.0, config.clip / total))
                    p -= config.lr * momentum
        epochs.append(found)
    return epochs


def test_the_norms_are_those_of_autograd_by_hand(tmp_path: Path, data: Data) -> None:
    """Before clipping, and without the penalty of weight decay."""
    run = train(tmp_path, data, CLIPPED, PLAIN)
    for line, expected in zip(run.epochs(), by_hand(run, data), strict=True):
        logged = line["gradient"]
        assert list(logged) == ["stem", "stages.conv2", "stages.conv3", "stages.conv4", "head"]
        assert logged.keys() == expected.keys()
        for stage, each in expected.items():
            assert len(each) == 5
            assert logged[stage] == pytest.approx({"mean": np.mean(each), "max": max(each)}, rel=2e-3)
    assert sum(of["mean"] ** 2 for of in logged.values()) ** 0.5 > 2 * CLIPPED.optimizer.clip


def test_norms_change_no_bit_of_a_training(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(DROPPED, optimizer=replace(DROPPED.optimizer, clip=0.1))
    train(tmp_path / "with", data, recipe, WRN)
    monkeypatch.setattr(divergence, "norms", lambda stages: torch.zeros(len(stages), dtype=torch.float64))
    train(tmp_path / "without", data, recipe, WRN)
    kept = [checkpoint.load(tmp_path / name / "last.safetensors")[0] for name in ("with", "without")]
    assert kept[0].keys() == kept[1].keys()
    assert all(kept[0][name].numpy().tobytes() == kept[1][name].numpy().tobytes() for name in kept[0])


def test_parts_of_a_batch_have_the_norms_of_the_whole(tmp_path: Path, data: Data) -> None:
    whole = train(tmp_path / "whole", data, CHAIN).epochs()
    parts = train(tmp_path / "parts", data, CHAIN, execution=Execution(micro_batch=3)).epochs()
    for a, b in zip(whole, parts, strict=True):
        for stage in ("stem", "head"):
            assert a["gradient"][stage] == pytest.approx(b["gradient"][stage], rel=1e-4)


def test_what_is_frozen_has_no_norm(tmp_path: Path, data: Data) -> None:
    """One more part learns every epoch, from the head to the stem."""
    run = train(tmp_path, data, replace(CLIPPED, epochs=6, tuning=Tuning(unfreeze=1)), PLAIN)
    assert [len(line["gradient"]) for line in run.epochs()] == [1, 2, 3, 4, 5, 5]
    assert list(run.epochs()[1]["gradient"]) == ["stages.conv4", "head"]


def test_norms_of_any_size_and_shape() -> None:
    """Of many values, of huge ones, of a scalar, of none."""
    many = torch.randn(300, PIECE // 16, generator=torch.Generator().manual_seed(0))
    huge = torch.full((4,), 1e25)
    found = norms([[many, torch.tensor(2.0)], [huge], [torch.tensor(-3.0)], []])
    expected = [(np.square(many.numpy(), dtype=np.float64).sum() + 4) ** 0.5, float("inf"), 3, 0]
    assert found.tolist() == pytest.approx(expected, rel=3e-6)


def test_a_norm_beyond_float32_is_logged_as_its_largest() -> None:
    of = meter.Meter.__new__(meter.Meter)
    of.stages = {"stem": [torch.nn.Parameter(torch.zeros(1))], "head": []}
    assert of.named([float("inf"), 0.0]) == {"stem": torch.finfo(torch.float32).max}


@pytest.mark.parametrize(
    "odd", [None, [], {"stem": 3}, {"stem": {"steps": 1, "sum": 2.0}}, {"stem": {"steps": 1, "sum": "x", "largest": 1}}]
)
def test_progress_that_is_not_whole_is_refused(odd: object) -> None:
    whole = asdict(RunningMeans())
    assert RunningMeans.from_json(whole) == RunningMeans()
    for record in ({**whole, "gradient": odd}, {k: v for k, v in whole.items() if k != "gradient"}):
        with pytest.raises(TypeError):
            RunningMeans.from_json(record)


def test_a_run_of_before_is_read(tmp_path: Path, data: Data) -> None:
    """Its epochs have no norms."""
    run = train(tmp_path, data, CHAIN)
    log = run.folder / "log.jsonl"
    lines = [{k: v for k, v in line.items() if k != "gradient"} for line in run.log()]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [line["epoch"] for line in run.epochs()] == [1, 2]
