"""The bookkeeping of CUDA graphs, with a fake capture on a CPU; and which networks may have one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from convatlas.catalogue import find
from convatlas.data.augment import order
from convatlas.data.types import Data
from convatlas.errors import UserError
from convatlas.layers import on_meta
from convatlas.machine.processes import World
from convatlas.recipe import SGD
from convatlas.recipes import find_recipe
from convatlas.runs.folder import open_run
from convatlas.train import feed
from convatlas.train.divergence import Diverged
from convatlas.train.events import Event
from convatlas.train.execution import Execution, decide
from convatlas.train.fit import Stopped
from convatlas.train.graph import WARM_UP
from tests.train.captures import CAPTURED, RECIPES, Broken, graphed
from tests.train.short_runs import CHAIN, WRN, assert_equal_runs, at_step, interrupting, same, train, weights


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_a_graphed_run_has_the_bits_of_an_eager_one(
    tmp_path: Path, data: Data, name: str, resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES[name]
    eager = train(tmp_path / "eager", data, recipe, WRN, execution=Execution(resident=resident))
    fakes = graphed(monkeypatch)
    run = train(tmp_path / "graphed", data, recipe, WRN, execution=Execution(read_every=16, resident=resident))
    assert_equal_runs(eager, run)
    assert run.record.execution["graph"] is True
    (fake,) = fakes  # of the whole step; the batches of 8 run as usual
    assert (fake.warm, fake.captures, fake.replays) == (WARM_UP, 1, 4 * 4 - WARM_UP)


def test_a_graphed_run_is_resumed_to_the_same_bits(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = graphed(monkeypatch)
    whole = train(tmp_path / "whole", data, CAPTURED, WRN)
    with pytest.raises(Stopped):
        train(tmp_path / "cut", data, CAPTURED, WRN, on_event=interrupting(at_step(3, 2)))
    resumed = train(tmp_path / "cut", data, CAPTURED, WRN, resume=True)
    assert_equal_runs(whole, resumed)
    assert len(fakes) == 3
    assert all(fake.replays for fake in fakes)


def test_a_bad_image_is_named_under_a_graph(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes in a replay, and is read three steps later."""
    at = order(72, seed=0, epoch=1)[16:32]  # the second batch of the second epoch

    def spoilt(images: Tensor, indices: Tensor, **more: Any) -> Tensor:
        images = augment(images, indices, **more)
        spoils[0] = torch.equal(indices, at)
        return images

    def spoiling(images: Tensor, normalizer: Any) -> Tensor:
        x = normalise(images, normalizer)
        if spoils[0]:
            x[3, 0, 0, 0] = torch.nan
        return x

    spoils, augment, normalise = [False], feed.augment, feed.normalise
    fakes = graphed(monkeypatch)
    monkeypatch.setattr(feed, "augment", spoilt)
    monkeypatch.setattr(feed, "normalise", spoiling)
    with pytest.raises(Diverged, match=f"at step 2 of epoch 2 .*, by the pixels of training image {at[3].item()}; "):
        train(tmp_path, data, CAPTURED, WRN, execution=Execution(read_every=16))
    assert fakes[0].replays


def test_what_cannot_be_captured_runs_as_usual_and_says_so(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = train(tmp_path / "eager", data, CAPTURED, WRN)
    graphed(monkeypatch, Broken)
    events: list[Event] = []
    run = train(tmp_path / "run", data, CAPTURED, WRN, on_event=events.append)
    assert same(weights(eager), weights(run))
    why = "cannot be captured as a CUDA graph and runs as usual (operation not permitted when stream is capturing)"
    assert [event["text"] for event in events if event["kind"] == "note"] == [f"the step {why}"]


def test_who_may_have_a_graph() -> None:
    gpu, recipe = torch.device("cuda"), replace(find_recipe("resnet_cifar"), optimizer=SGD(0.1))
    asked = Execution(graph=True, precision="float32")

    def settle(name: str, execution: Execution = asked, processes: int = 1) -> Execution:
        with on_meta():
            net = find(name).build()
        return decide(execution, net, recipe, gpu, World(0, processes))

    assert settle("resnet20").graph
    for name in ("stochastic_depth_resnet110", "nasnet_a_mobile", "airbench94"):
        with pytest.raises(UserError, match=f"{name} runs other layers, or other rates, from step to step; leave out"):
            settle(name)
    with pytest.raises(UserError, match="in parts or segments is not captured"):
        settle("resnet20", replace(asked, micro_batch=8))
    assert settle("resnet20", processes=2).graph
    with pytest.raises(UserError, match="a CUDA graph needs a GPU, not a cpu; leave out --graph"):
        decide(asked, find("lenet5").build(), recipe, torch.device("cpu"), World())


RANKS = """
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.captures import CAPTURED, RECIPES, Broken, graphed
from tests.train.short_runs import CHAIN, WRN, some, train
from tests.train.captures import RECIPES, graphed

train(Path(sys.argv[1]) / "chain", some(), CHAIN)
recipe = replace(RECIPES["mixed"], epochs=6)
train(Path(sys.argv[1]) / "eager", some(), recipe, WRN)
fakes = graphed(pytest.MonkeyPatch())
train(Path(sys.argv[1]) / "graphed", some(), recipe, WRN)
assert (fakes[0].warm, fakes[0].replays) == (11, 6 * 4 - 11)
"""


def test_processes_replay_together(tmp_path: Path, data: Data) -> None:
    """Each a graph of its share of every step, the exchange of gradients included, after as many steps as DDP wants.

    Norms of gradients are those of one process, where neither batch norm nor dropout differs.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    here = str(Path(__file__).parents[2])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", "PYTHONPATH": here}
    done = subprocess.run([*command, sys.executable, script, tmp_path], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    eager, both = open_run(tmp_path / "eager"), open_run(tmp_path / "graphed")
    assert both.record.machine["processes"] == 2
    assert_equal_runs(eager, both)
    alone = train(tmp_path / "alone", data, CHAIN)
    for ours, theirs in zip(open_run(tmp_path / "chain").log(), alone.log(), strict=True):
        assert ours["gradient"]["stem"] == pytest.approx(theirs["gradient"]["stem"], rel=1e-4)
        assert ours["gradient"]["head"] == pytest.approx(theirs["gradient"]["head"], rel=1e-4)
