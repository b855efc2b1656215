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
from convatlas.data.augment import order
from convatlas.data.types import Data
from convatlas.errors import UserError
from convatlas.layers import ConvNet, on_meta
from convatlas.machine.processes import World
from convatlas.recipe import EMA, SGD, RMSProp
from convatlas.recipes import find_recipe
from convatlas.train import feed, setup
from convatlas.train import fit as module
from convatlas.train.divergence import Diverged
from convatlas.train.events import Event
from convatlas.train.execution import Execution, decide
from convatlas.train.fit import Stopped
from convatlas.train.graph import WARM_UP
from convatlas.train.job import Job
from tests.train.short_runs import DROPPED, WRN, assert_equal_runs, at_step, interrupting, same, train, weights

CAPTURED = replace(DROPPED, epochs=4)  # 4 batches of 16 and one of 8 an epoch


class Fake:
    """Captures without effect; a replay writes its results into the tensors that the capture gave, as a graph does."""

    def __init__(self) -> None:
        self.net: ConvNet | None = None
        self.warm = self.captures = self.replays = 0

    def warm_up(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        self.warm += 1
        return work()

    def __call__(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        assert self.net is not None
        self.captures += 1
        buffers, random = [b.clone() for b in self.net.buffers()], torch.get_rng_state()
        outputs = tuple(t.detach().clone() for t in work())
        for buffer, before in zip(self.net.buffers(), buffers, strict=True):
            buffer.copy_(before)
        torch.set_rng_state(random)

        def replay() -> None:
            self.replays += 1
            for output, now in zip(outputs, work(), strict=True):
                output.copy_(now)

        return replay, outputs


class Broken(Fake):
    def __call__(self, work: object) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def graphed(patch: pytest.MonkeyPatch, kind: type[Fake] = Fake) -> list[Fake]:
    """The captures of the runs that follow, all of which are graphed."""
    made: list[Fake] = []

    def passes_of(net: ConvNet, job: Job, capture: Fake | None) -> Any:
        if capture:
            capture.net = net
            made.append(capture)
        return usual_passes(net, job, capture)

    usual_passes, usual = module.passes_of, setup.decide
    patch.setattr(module, "OnSideStream", kind)
    patch.setattr(module, "passes_of", passes_of)
    patch.setattr(setup, "decide", lambda *args: replace(usual(*args), graph=True))
    return made


RECIPES = {
    "sgd": CAPTURED,
    "rmsprop": replace(CAPTURED, optimizer=RMSProp(0.01), ema=EMA(0.9)),
    "mixed": replace(CAPTURED, augment=("reflect_crop:1", "alternate_flip", "cutout:2", "mixup:0.4")),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_graphed_run_has_the_bits_of_an_eager_one(
    tmp_path: Path, data: Data, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES[name]
    eager = train(tmp_path / "eager", data, recipe, WRN)
    fakes = graphed(monkeypatch)
    run = train(tmp_path / "graphed", data, recipe, WRN, execution=Execution(read_every=16))
    assert_equal_runs(eager, run)
    assert run.record.execution["graph"] is True
    (fake,) = fakes  # of the augmentation and of the passes; the batches of 8 run as usual
    assert (fake.warm, fake.captures, fake.replays) == (2 * WARM_UP, 2, 2 * (4 * 4 - WARM_UP))


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
    why = "cannot be captured as a CUDA graph and run as usual (operation not permitted when stream is capturing)"
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert notes == [f"the augmentation {why}", f"the passes {why}"]


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
