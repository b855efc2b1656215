"""Step: one step of training, in the order it happens; all of it on the device, which nothing waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from .feed import Batch, During, Feed
from .meter import Meter
from .train_state import TrainState


class Outcome(NamedTuple):
    """What came of this process's share of a batch."""

    sums: Tensor  # of the batch: see meter.py
    indices: Tensor  # int64 (n,) in the training split
    x: Tensor  # network input (n, C, H, W)
    loss: Tensor  # mean, ()
    logits: Tensor  # (n, classes)


class Step:
    """`step(*batch)`, once the learning rate is set: from a batch's indices to weights that have learnt from it."""

    def __init__(self, state: TrainState, feed: Feed, passes: Callable[..., Any], meter: Meter, during: During):
        self.state, self.feed, self.passes, self.meter, self.during = state, feed, passes, meter, during

    def __call__(self, *batch: Any) -> Outcome:
        size = batch[0]
        with self.during():
            indices, labels, x, target = self.feed.prepared(Batch(*batch))
            loss, logits = self.passes(x, target, size)  # forward and backward
        sums = self.meter.sums(loss, logits, labels)
        self.state.update()  # changes nothing from the first step on that is not finite
        return Outcome(sums, indices, x, loss, logits)
