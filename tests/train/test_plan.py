"""What a run would take: counted exactly, timed by a short trial, and nothing left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.accounting.memory.predict import memory
from convatlas.catalogue import find
from convatlas.cli import main
from convatlas.data.types import Data
from convatlas.recipe import EMA
from convatlas.runs import checkpoint
from convatlas.train import plan as module
from convatlas.train.plan import plan_training, step_durations
from tests.train.short_runs import CHAIN, TINY, train


def test_counts_are_those_of_the_run(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEASURE_S", 0.0)
    recipe = replace(CHAIN, epochs=40, ema=EMA(0.9))
    plan = plan_training(TINY, data, recipe, device="cpu", input=(1, 8, 8))
    assert (plan.steps, plan.total_steps, plan.train_images, plan.held_out_images) == (5, 200, 72, 32)
    assert plan.measured == module.FEWEST
    run = train(tmp_path, data, replace(recipe, epochs=1))
    tensors = checkpoint.load(run.folder / "last.safetensors")[0]
    saved = sum(t.numel() * t.element_size() for name, t in tensors.items() if not name.startswith("random/"))
    assert plan.checkpoint_bytes == saved
    net = find(TINY).build(input=(1, 8, 8), classes=10, widths=(4,))
    weights = sum(p.numel() for p in net.parameters()) * 4
    assert plan.memory_bytes == memory(net).training.of(16) + weights
    assert plan.total_s == pytest.approx(40 * (5 * plan.step_s + 32 / plan.evaluation_images_per_s))


def test_evaluations_are_not_counted_as_steps() -> None:
    seen = [("start", 0.0), ("step", 9.0), ("step", 12.0), ("step", 13.0), ("step", 14.5), ("epoch", 50.0)]
    assert step_durations(seen) == [1.0, 1.5]
    assert step_durations([*seen, ("step", 52.0)]) == [1.0, 1.5, 2.0]
    assert step_durations(seen[:2]) == [9.0]  # a run of a single step


def test_the_command_trains_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "MEASURE_S", 0.0)
    command = ["train", "lenet5", "--data", "digits", "--recipe", "digits", "--plan"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "2,760, 46 an epoch, of 32 images" in out
    assert out.rstrip().endswith("times are for this machine as it is now.")
    assert main([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["total_steps"], record["schema"]) == (2760, 1)
    assert list(tmp_path.iterdir()) == []
    assert main([*command, "--resume"]) == 2
    assert "--plan and --resume exclude each other" in capsys.readouterr().err
