"""A fake capture of CUDA graphs for a CPU, and the recipes of runs that use it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from convatlas.recipe import EMA, RMSProp
from convatlas.train import fit as module
from convatlas.train import graph, setup
from convatlas.train.train_state import TrainState
from tests.train.short_runs import DROPPED

CAPTURED = replace(DROPPED, epochs=4)  # 4 batches of 16 and one of 8 an epoch


class Fake:
    """Captures without effect; a replay writes its results into the tensors that the capture gave, as a graph does."""

    made: list[Fake] = []  # noqa: RUF012 (replaced for each test)

    def __init__(self) -> None:
        self.state: TrainState | None = None
        self.warm = self.captures = self.replays = 0
        self.made.append(self)

    def aside(self) -> AbstractContextManager[None]:
        return nullcontext()

    def warm_up(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        self.warm += 1
        return work()

    def __call__(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        self.captures += 1
        tensors, random = [(t, t.clone()) for t in self.tensors()], torch.get_rng_state()
        outputs = tuple(t.detach().clone() for t in work())
        with torch.no_grad():
            for tensor, before in tensors:
                tensor.copy_(before)
        torch.set_rng_state(random)

        def replay() -> None:
            self.replays += 1
            for output, now in zip(outputs, work(), strict=True):
                output.copy_(now)

        return replay, outputs

    def tensors(self) -> list[Tensor]:
        """All that a step may change."""
        state = self.state
        assert state is not None
        kept = [tensor for of in state.optimizer.state.values() for tensor in of.values() if tensor is not None]
        return [*state.net.parameters(), *state.net.buffers(), state.bad, *kept]


class Broken(Fake):
    def __call__(self, work: object) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def graphed(patch: pytest.MonkeyPatch, kind: type[Fake] = Fake) -> list[Fake]:
    """The captures of the runs that follow, all of which are graphed."""
    made: list[Fake] = []

    def step_of(state: TrainState, *more: Any) -> Any:
        found = usual_step_of(state, *more)
        made[-1].state = state
        return found

    usual_step_of, usual = module.step_of, setup.decide
    patch.setattr(kind, "made", made)
    patch.setattr(graph, "OnSideStream", kind)
    patch.setattr(module, "step_of", step_of)
    patch.setattr(setup, "decide", lambda *args: replace(usual(*args), graph=True))
    return made


RECIPES = {
    "sgd": CAPTURED,
    "rmsprop": replace(CAPTURED, optimizer=RMSProp(0.01), ema=EMA(0.9)),
    "mixed": replace(CAPTURED, augment=("reflect_crop:1", "alternate_flip", "cutout:2", "mixup:0.4")),
    "crops": replace(CAPTURED, augment=("area_crop:0.5:1", "flip", "cutmix:1")),
}
