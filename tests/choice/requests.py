"""Requests as they are written; candidates and requests at random, in few whole numbers: ties and unknowns occur."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

from convatlas.choice.certificate import Candidate, Value
from convatlas.choice.choose import Request
from convatlas.choice.facts import Fact
from convatlas.limits import OF_CHOICES, OPERATORS, Limit, parse_limit

SMALL = ("top1>=70%", "params<=5M", "macs<=600M")
QUANTITIES = ("top1", "params", "macs", "latency", "memory")


def request(*limits: str, **more: Any) -> Request:
    return Request(tuple(parse_limit(limit, OF_CHOICES) for limit in limits), **more)


def fact(name: str, top1: float | None = 70.0, **more: object) -> Fact:
    network, _, source = name.partition("@")
    told = dict(
        dataset="imagenet", kind="paper", top5=None, single=True, protocol="center", where="", weights="", origin=""
    )
    return Fact(network=network, source=source or "paper", top1=top1, **(told | more))  # type: ignore[arg-type]


def value(rng: Random, quantity: str) -> Value | None:
    if rng.random() < 0.03:
        return None
    middle = rng.randint(0, 8)
    wide = rng.randint(0, 3) if quantity == "latency" else 0
    return Value(middle, max(0, middle - wide), middle + wide)


def candidates(rng: Random) -> list[Candidate]:
    return [
        Candidate(fact(f"n{i}"), {quantity: value(rng, quantity) for quantity in QUANTITIES})
        for i in range(rng.randint(0, 25))
    ]


def limits(rng: Random) -> list[Limit]:
    found = []
    for _ in range(rng.randint(0, 4)):
        quantity = rng.choice(QUANTITIES)
        usual = ">=" if quantity == "top1" else "<="
        op = rng.choice([usual] * 6 + list(OPERATORS))
        found.append(Limit(quantity, op, Decimal(rng.choice(["0", "1", "2", "3", "4", "5", "6", "7", "2.5", "4.5"]))))
    return found


def indices(rng: Random) -> list[str]:
    return rng.sample(QUANTITIES, rng.randint(1, 4))
