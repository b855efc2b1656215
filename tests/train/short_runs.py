"""Runs of a second on the embedded digits: their recipes, ways to interrupt and to compare them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convatlas.catalogue import Variant
from convatlas.data.sources.memory import memory_data
from convatlas.data.types import Data, MemorySplit
from convatlas.recipe import SGD, Recipe
from convatlas.runs import checkpoint
from convatlas.runs.folder import Run
from convatlas.train.events import Event, OnEvent
from convatlas.train.fit import fit
from tests.trained import digits

CHAIN = Recipe(
    name="tiny", source="a test", epochs=2, batch=16, optimizer=SGD(0.02), net=(("widths", (4,)),)
)  # of a network without batch norm or dropout
DROPPED = replace(
    CHAIN,
    optimizer=SGD(0.1, nesterov=True, weight_decay=1e-3),
    augment=("pad_crop:1", "flip"),
    net=(("depth", 10), ("width", 1)),
)  # of one with both
WRN, TINY = "wrn16_4_dropout", "chain_n1_m1_k0"


def some(train: int = 72, test: int = 32, flip: bool = False) -> Data:
    """Of the embedded digits, with counts and checksums of their own; by default 5 steps of 16, the last of 8."""
    data = digits(train, test)
    splits = {}
    for split in (data.train, data.val):
        assert isinstance(split, MemorySplit)
        splits[split.name] = split.images, split.labels.flip(0) if flip else split.labels
    return memory_data("digits", splits, data.classes, {"source": "scikit-learn"}, resize_mode="stretch")


def train(out: Path, data: Data, recipe: Recipe = CHAIN, network: str | Variant = TINY, **more: Any) -> Run:
    return fit(network, data, recipe, out=out, device="cpu", **{"input": (1, 8, 8), **more})


def weights(run: Run, which: str = "last") -> dict[str, Tensor]:
    return checkpoint.load(run.folder / f"{which}.safetensors")[0]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def untimed(run: Run) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "images_per_s"} for line in run.log()]


def interrupting(at: Callable[[Event], bool], number: signal.Signals = signal.SIGINT) -> OnEvent:
    """A `say` that sends the process a signal at the first event of which `at` is true."""
    left = [True]

    def on_event(event: Event) -> None:
        if left and at(event):
            left.clear()
            signal.raise_signal(number)

    return on_event


def at_step(epoch: int, step: int) -> Callable[[Event], bool]:
    return lambda event: event["kind"] == "step" and (event["epoch"], event["step"]) == (epoch, step)


def assert_equal_runs(a: Run, b: Run) -> None:
    assert same(weights(a), weights(b))  # momentum and random state included
    assert same(weights(a, "best"), weights(b, "best"))
    assert untimed(a) == untimed(b)
    states = [checkpoint.load(run.folder / "last.safetensors")[1] for run in (a, b)]
    assert states[0]["state"] | {"seconds": 0} == states[1]["state"] | {"seconds": 0}
