"""The grammar of limits on a network: 'params<=5M', 'macs<600M', 'top1>=75', 'year=2015'.

Also amounts with units on their own: bytes ("8GB", "8GiB"), times ("30m"), multiply-adds ("1GMAC").
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite

from .errors import UserError, unknown

Number = int | float | Decimal

OPERATORS: dict[str, Callable[[Number, Number], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
THOUSANDS: dict[str, Number] = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
BYTES: dict[str, Number] = {"b": 1}
BYTES |= {f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)}
BYTES |= {f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)}
SECONDS: dict[str, Number] = {"ms": Decimal("0.001"), "s": 1, "m": 60, "h": 3600, "d": 86400}

MOST = Decimal(10) ** 18  # of any amount


def whole_number(text: str) -> int | None:
    """The number that up to 15 decimal digits stand for; None for anything else, such as "²" or a longer number."""
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None


def signed_number(text: str) -> int:
    """The same with a sign, if any: "-3". Raises ValueError for anything else."""
    found = whole_number(text.strip().removeprefix("-"))
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a whole number of at most 15 digits")
    return -found if "-" in text else found


def real_number(text: str) -> float:
    """The finite number in decimal notation: "0.1", "-.5", "1e-3". Raises ValueError for anything else."""
    digits = r"([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})"
    if not re.fullmatch(rf"[+-]?{digits}(e[+-]?[0-9]{{1,3}})?", text.strip().lower()):
        raise ValueError(f"{text[:40]!r} is not a number")
    if not isfinite(value := float(text)):
        raise ValueError(f"{text[:40]!r} is too large")
    return value


@dataclass(frozen=True)
class Unit:
    """A unit of an amount: its factors by suffix, in lower case, and how to write one."""

    name: str
    suffixes: Mapping[str, Number]
    example: str


COUNT = Unit("a count", THOUSANDS, "5M, 3.9G or 1e6")
MAC_SUFFIXES = THOUSANDS | {f"{prefix}mac{plural}": n for prefix, n in THOUSANDS.items() for plural in ("", "s")}
MACS = Unit("a number of multiply-adds", MAC_SUFFIXES, "1GMAC, 569M or 300000000")
PIXELS = Unit("a number of pixels", {"": 1, "px": 1}, "224 or 224px")
PLAIN = Unit("a number", {"": 1}, "18")
PERCENT = Unit("a percentage", {"": 1, "%": 1}, "75 or 75%")
SIZE = Unit("a number of bytes", BYTES, "8GB (8 x 1000^3 bytes), 8GiB (8 x 1024^3) or 500MB")
TIME = Unit("a time", SECONDS, "90s, 30m or 2h")
LATENCY = Unit("a time", SECONDS, "15ms or 0.1s")
RATE = Unit("images a second", {"": 1}, "100")

QUANTITIES: dict[str, Unit] = {
    "params": COUNT,
    "weights": COUNT,  # parameters that are not biases
    "bytes": SIZE,  # of the parameters
    "macs": MACS,  # forward, one image
    "training_macs": MACS,  # forward and backward
    "activations": COUNT,  # values
    "depth": PLAIN,  # weighted layers on the longest path
    "side": PIXELS,  # of the image, the longer one
    "channels": PLAIN,  # of the image
    "year": PLAIN,  # of the paper
    "top1": PERCENT,  # accuracy
    "top5": PERCENT,
    "latency": LATENCY,  # of one image, estimated on this machine
}
OF_CHOICES: dict[str, Unit] = QUANTITIES | {  # what `choose` has besides
    "memory": SIZE,  # the peak of inference
    "size": SIZE,  # of the file of weights
    "throughput": RATE,
}


@dataclass(frozen=True)
class Limit:
    """A limit: a quantity, an operator, and a value (in bytes, seconds or single units)."""

    quantity: str
    op: str
    value: Decimal

    def __str__(self) -> str:
        """ "params<=5000000", as `parse_limit` reads it."""
        return f"{self.quantity}{self.op}{self.value:f}{'s' if self.quantity == 'latency' else ''}"

    def holds(self, record: Mapping[str, Number | None]) -> bool:
        """Whether a record is within the limit; one without a value for the quantity is not."""
        value = record.get(self.quantity)
        return value is not None and OPERATORS[self.op](Decimal(str(value)), self.value)


def parse_limit(text: str, quantities: Mapping[str, Unit] = QUANTITIES) -> Limit:
    """ "params<=5M" -> Limit("params", "<=", 5000000), of one of the quantities.

    Raises UserError for an unknown quantity, and for a value that is not in its unit.
    """
    found = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>|=)\s*([^<>=]+?)\s*", text)
    if found is None:
        raise UserError(
            f"limit {text[:40]!r} is not a quantity, one of {', '.join(OPERATORS)}, and a value",
            "write it as 'params<=5M'",
        )
    quantity, op, value = found.groups()
    if quantity not in quantities:
        raise unknown("quantity", quantity, quantities)
    try:
        return Limit(quantity, op, parse(value, quantities[quantity]))
    except UserError as error:
        raise UserError(f"limit {text[:40]!r}: {error.what}", error.remedy) from None


def hold(limits: Iterable[Limit], record: Mapping[str, Number | None]) -> bool:
    return all(limit.holds(record) for limit in limits)


def parse(text: str, unit: Unit) -> Decimal:
    """ "5M" -> 5000000, in the smallest unit. Raises UserError for anything else."""
    number = re.fullmatch(r"\s*([0-9,_]{0,40}\.?[0-9]{1,40}(?:e[+-]?[0-9]{1,2})?)\s*([a-z%]*)\s*", text.lower())
    factor = unit.suffixes.get(number[2]) if number else None
    if number is None or factor is None:
        raise UserError(f"{text[:40]!r} is not {unit.name}", f"write it as in {unit.example}")
    value = Decimal(number[1].replace(",", "").replace("_", "")) * Decimal(factor)
    if value > MOST:
        raise UserError(f"{text[:40]!r} is too large", f"give at most {MOST:.0e}")
    return value


def parse_bytes(text: str) -> int:
    """ "8GB" -> 8,000,000,000; "8GiB" -> 8 * 2**30."""
    return _positive(text, SIZE)


def parse_macs(text: str) -> int:
    """ "1GMAC", "569M", "300_000_000" -> multiply-adds."""
    return _positive(text, MACS)


def parse_seconds(text: str) -> float:
    """ "30m" -> 1800.0."""
    value = parse(text, TIME)
    if value == 0:
        raise UserError(f"{text!r} is not a time", f"write it as in {TIME.example}")
    return float(value)


def parse_percent(text: str) -> float:
    """ "5%" -> 0.05."""
    return float(parse(text, PERCENT)) / 100


def _positive(text: str, unit: Unit) -> int:
    value = int(parse(text, unit))
    if value == 0:
        raise UserError(f"{text[:40]!r} is not {unit.name}", f"write it as in {unit.example}")
    return value
