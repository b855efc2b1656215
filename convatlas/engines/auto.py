"""Which engine is the fastest for a network here: measured side by side once, then remembered in the cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import torch

from ..errors import UserError
from ..files.atomic import write_text
from ..files.plain import read_json
from ..layers import Shape
from ..machine import facts
from ..weights.cache import cache as cached
from . import timing
from .net import EngineNet

SECONDS = 3.0  # of rounds
MOST_IMAGES = 16  # of a batch that is timed: a larger one takes as long for each image


@dataclass(frozen=True)
class Choice:
    engine: str
    milliseconds: Mapping[str, float]  # for each image, by engine

    def __str__(self) -> str:
        others = sorted(self.milliseconds.items(), key=lambda pair: pair[1])
        return f"{self.engine} ({', '.join(f'{name} {ms:.3g} ms' for name, ms in others)} an image)"


def key_of(net: torch.nn.Module, input: Shape, precision: str, threads: int, batch: int) -> str:
    """What a choice depends on: the network's structure, how it runs, this machine and its engines' versions."""
    here = facts.machine()
    what = [
        repr(net),
        input,
        precision,
        threads,
        min(batch, MOST_IMAGES),
        *(here[key] for key in facts.SAME if key in here),
    ]
    return sha256(json.dumps([*what, here["versions"]]).encode()).hexdigest()[:32]


def remembered(key: str) -> Choice | None:
    file = cached("engines") / f"{key}.json"
    if not file.is_file():
        return None
    try:
        found = read_json(file)
        return Choice(str(found["engine"]), {str(k): float(v) for k, v in found["milliseconds"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is damaged", "delete it; the engines are then timed again") from error


def timed(sessions: Mapping[str, EngineNet], input: Shape, threads: int, batch: int, key: str) -> Choice:
    """The fastest of the sessions, measured in interleaved rounds, and remembered."""
    x = torch.randn(min(batch, MOST_IMAGES), *input, generator=torch.Generator().manual_seed(0))
    calls = [lambda net=net: net(x) for net in sessions.values()]
    times = timing.rounds(calls, SECONDS, timing.timer_for(threads))
    found = {name: 1e3 * time.median / len(x) for name, time in zip(sessions, times)}
    choice = Choice(min(found, key=lambda name: found[name]), found)
    file = cached("engines") / f"{key}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps({"engine": choice.engine, "milliseconds": found}))
    return choice
