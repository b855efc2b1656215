"""The bookkeeping of CUDA graphs, with a fake capture on a CPU; and which networks may have one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from convatlas.catalogue import find
from convatlas.data.types import Data
from convatlas.errors import UserError
from convatlas.layers import ConvNet, on_meta
from convatlas.machine.processes import World
from convatlas.recipe import EMA, SGD, RMSProp
from convatlas.recipes import find_recipe
from convatlas.train import fit as module
from convatlas.train.events import Event
from convatlas.train.execution import Execution, decide
from convatlas.train.fit import Stopped
from convatlas.train.graph import WARM_UP, GraphedPasses
from convatlas.train.job import Job
from convatlas.train.passes import Passes
from tests.train.short_runs import DROPPED, WRN, assert_equal_runs, at_step, interrupting, same, train, weights

CAPTURED = replace(DROPPED, epochs=4)  # 4 batches of 16 and one of 8 an epoch


class Fake:
    """Captures without effect; a replay writes its results into the tensors that the capture gave, as a graph does."""

    def __init__(self, net: ConvNet):
        self.net, self.warm, self.captures, self.replays = net, 0, 0, 0

    def warm_up(self, work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        self.warm += 1
        return work()

    def __call__(self, work: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
        self.captures += 1
        buffers, random = [b.clone() for b in self.net.buffers()], torch.get_rng_state()
        outputs = [t.detach().clone() for t in work()]
        for buffer, before in zip(self.net.buffers(), buffers, strict=True):
            buffer.copy_(before)
        torch.set_rng_state(random)

        def replay() -> None:
            self.replays += 1
            for output, now in zip(outputs, work(), strict=True):
                output.copy_(now)

        return replay, outputs


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    """Those of the runs that follow, all of which are graphed."""
    made: list[Fake] = []

    def graphed(net: ConvNet, job: Job) -> GraphedPasses:
        made.append(Fake(net))
        return GraphedPasses(net, Passes(net, job), made[-1])

    monkeypatch.setattr(module, "passes_of", graphed)
    return made


RECIPES = {"sgd": CAPTURED, "rmsprop": replace(CAPTURED, optimizer=RMSProp(0.01), ema=EMA(0.9))}


@pytest.mark.parametrize("name", RECIPES)
def test_a_graphed_run_has_the_bits_of_an_eager_one(tmp_path: Path, data: Data, name: str, request: Any) -> None:
    recipe = RECIPES[name]
    eager = train(tmp_path / "eager", data, recipe, WRN)
    fakes = request.getfixturevalue("fakes")
    graphed = train(tmp_path / "graphed", data, recipe, WRN, execution=Execution(read_every=16))
    assert_equal_runs(eager, graphed)
    (fake,) = fakes
    assert (fake.warm, fake.captures, fake.replays) == (WARM_UP, 1, 4 * 4 - WARM_UP)  # the batches of 8 run as usual


def test_a_graphed_run_is_resumed_to_the_same_bits(tmp_path: Path, data: Data, fakes: list[Fake]) -> None:
    whole = train(tmp_path / "whole", data, CAPTURED, WRN)
    with pytest.raises(Stopped):
        train(tmp_path / "cut", data, CAPTURED, WRN, on_event=interrupting(at_step(3, 2)))
    resumed = train(tmp_path / "cut", data, CAPTURED, WRN, resume=True)
    assert_equal_runs(whole, resumed)
    assert all(fake.replays for fake in fakes)


def test_what_cannot_be_captured_runs_as_usual_and_says_so(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Fake):
        def __call__(self, work: object) -> Any:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

    eager = train(tmp_path / "eager", data, CAPTURED, WRN)
    monkeypatch.setattr(module, "passes_of", lambda net, job: GraphedPasses(net, Passes(net, job), Broken(net)))
    events: list[Event] = []
    run = train(tmp_path / "run", data, CAPTURED, WRN, on_event=events.append)
    assert same(weights(eager), weights(run))
    (text,) = (event["text"] for event in events if event["kind"] == "note")
    assert text == (
        "no CUDA graph can be captured (operation not permitted when stream is capturing); training goes on without one"
    )


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
    with pytest.raises(UserError, match="distributed training is not captured"):
        settle("resnet20", processes=2)
    with pytest.raises(UserError, match="a CUDA graph needs a GPU, not a cpu; leave out --graph"):
        decide(asked, find("lenet5").build(), recipe, torch.device("cpu"), World())
