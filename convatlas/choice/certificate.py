"""The proof of a choice: why the pick is picked, and what keeps each other candidate from it. Plain numbers.

A value is a number with an interval, whose ends are equal for what is counted or measured. A limit holds for a value if
it holds at both ends, fails if it fails at both, and is undecided in between. What fits surely is compared: the pick is
the best by the indices in their order, and nothing that fits is at least as good everywhere and better somewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, Literal, NamedTuple

from ..limits import OPERATORS, Limit, Number
from .facts import Fact
from .pareto import HIGHEST, Worth, dominators, worth

NEAREST = 5
Status = Literal["fits", "undecided", "refused"]


class Value(NamedTuple):
    value: float
    low: float
    high: float
    how: str = "counted"  # counted, published, estimated, predicted, measured, cross-validated

    @classmethod
    def exact(cls, value: float, how: str = "counted") -> Value:
        return cls(value, value, value, how)


class Bound(NamedTuple):
    """A limit in plain numbers."""

    quantity: str
    op: str
    value: float

    @classmethod
    def of(cls, limit: Limit) -> Bound:
        return cls(limit.quantity, limit.op, plain(limit.value))

    def holds(self, of: Value | None) -> bool | None:
        """None where it is undecided; a value that is not known is not within a limit."""
        if of is None:
            return False
        if self.op == "=":
            return self.value == of.low == of.high or (None if of.low <= self.value <= of.high else False)
        ends = {OPERATORS[self.op](of.low, self.value), OPERATORS[self.op](of.high, self.value)}
        return None if len(ends) == 2 else ends.pop()

    def admits_at(self, of: Value) -> float:
        """What the limit has to become for the value to be surely within it."""
        return of.value if self.op == "=" else of.high if self.op[0] == "<" else of.low


class Break(NamedTuple):
    """A limit that a candidate is not surely within, and by how much; without a value, it is not known."""

    limit: int  # its number in the request; -1 where what is not known is an index
    quantity: str
    undecided: bool
    value: float | None = None
    by: float | None = None  # from the limit to the value
    share: float | None = None  # of the limit
    admits_at: float | None = None


@dataclass(frozen=True)
class Candidate:
    """A network with one figure of its accuracy, and its values by quantity; None where one is not known."""

    fact: Fact
    values: Mapping[str, Value | None]

    @property
    def name(self) -> str:
        return self.fact.name

    def plain(self, indices: Sequence[str]) -> Worth:
        values = {name: of.value for name in indices if (of := self.values.get(name)) is not None}
        return worth(values, indices)


@dataclass(frozen=True)
class Judged:
    candidate: Candidate
    breaks: tuple[Break, ...]

    @property
    def status(self) -> Status:
        if not self.breaks:
            return "fits"
        return "undecided" if all(it.undecided for it in self.breaks) else "refused"

    @property
    def distance(self) -> tuple[float, float]:
        """The largest share by which a limit is broken, and the sum of the shares; missing weights are no distance."""
        shares = [inf if it.share is None else it.share for it in self.breaks if it.quantity != "yours"]
        return max(shares, default=0.0), sum(shares)


class Loosened(NamedTuple):
    """The least that one limit alone must give to admit something better than the pick."""

    limit: int
    to: float
    admits: str


@dataclass(frozen=True)
class Certificate:
    """`indices` are what candidates are compared by; the first is the objective."""

    bounds: tuple[Bound, ...]
    indices: tuple[str, ...]
    judged: Mapping[str, Judged]

    def of_status(self, status: Status) -> list[str]:
        return [name for name, it in self.judged.items() if it.status == status]

    def key(self, name: str) -> tuple[Worth, str]:
        """Candidates by preference: by the indices in their order, and then by name."""
        return self.judged[name].candidate.plain(self.indices), name

    @cached_property
    def dominators(self) -> dict[str, str | None]:
        """Of what fits."""
        return dominators({n: self.judged[n].candidate.plain(self.indices) for n in self.of_status("fits")})

    @cached_property
    def pareto(self) -> list[str]:
        """Of what fits, the most preferred first."""
        return sorted((name for name, by in self.dominators.items() if by is None), key=self.key)

    @cached_property
    def pick(self) -> str | None:
        return min(self.of_status("fits"), key=self.key, default=None)

    @cached_property
    def better_undecided(self) -> list[str]:
        """What would be picked instead, if it fits."""
        pick = self.pick
        return sorted(
            (n for n in self.of_status("undecided") if pick is None or self.key(n) < self.key(pick)), key=self.key
        )

    @cached_property
    def nearest(self) -> list[str]:
        """Without a pick: the refused that break the limits by the least share, of what is known of."""
        if self.pick is not None:
            return []
        known = [name for name in self.of_status("refused") if self.judged[name].distance[0] < inf]
        return sorted(known, key=lambda name: (self.judged[name].distance, name))[:NEAREST]

    @cached_property
    def loosened(self) -> list[Loosened]:
        """For each limit the least that it alone must give to admit something better than the pick."""
        best = None if self.pick is None else self.key(self.pick)
        found = []
        for number, bound in enumerate(self.bounds):
            only = [
                (abs(it.breaks[0].admits_at - bound.value), self.key(name), it.breaks[0].admits_at)
                for name, it in self.judged.items()
                if len(it.breaks) == 1 and it.breaks[0].limit == number and it.breaks[0].admits_at is not None
                if best is None or self.key(name) < best
            ]
            if only:
                _, (_, name), to = min(only)
                found.append(Loosened(number, to, name))
        return found

    def to_json(self) -> dict[str, Any]:
        """docs/reports.md has the keys."""
        return {
            "limits": [bound._asdict() for bound in self.bounds],
            "indices": [{"quantity": it, "best": "highest" if it in HIGHEST else "lowest"} for it in self.indices],
            "pick": self.pick,
            "pareto": self.pareto,
            "undecided": self.of_status("undecided"),
            "better_undecided": self.better_undecided,
            "nearest": self.nearest,
            "loosened": [it._asdict() for it in self.loosened],
            "candidates": [self.candidate_json(it) for it in self.judged.values()],
        }

    def candidate_json(self, it: Judged) -> dict[str, Any]:
        return {
            **it.candidate.fact.to_json(),
            "values": {name: of and of._asdict() for name, of in it.candidate.values.items()},
            "status": it.status,
            "breaks": [broken._asdict() for broken in it.breaks],
            "dominated_by": self.dominators.get(it.candidate.name),
        }


def certify(candidates: Sequence[Candidate], limits: Sequence[Limit], indices: Sequence[str]) -> Certificate:
    """Judges each candidate by every limit; one of which an index is not known cannot be compared, and is refused."""
    bounds = tuple(map(Bound.of, limits))
    return Certificate(bounds, tuple(indices), {it.name: judge(it, bounds, indices) for it in candidates})


def judge(candidate: Candidate, bounds: Sequence[Bound], indices: Sequence[str]) -> Judged:
    breaks = [
        broken(number, bound, candidate.values.get(bound.quantity), holds)
        for number, bound in enumerate(bounds)
        if (holds := bound.holds(candidate.values.get(bound.quantity))) is not True
    ]
    missing = {it.quantity for it in breaks}
    breaks += [Break(-1, name, False) for name in indices if candidate.values.get(name) is None and name not in missing]
    return Judged(candidate, tuple(breaks))


def broken(number: int, bound: Bound, of: Value | None, holds: bool | None) -> Break:
    if of is None:
        return Break(number, bound.quantity, False)
    by = abs(of.value - bound.value)
    share = by / bound.value if bound.value else inf
    return Break(
        number, bound.quantity, holds is None, of.value, by, None if share == inf else share, bound.admits_at(of)
    )


def plain(value: Number) -> float:
    """An integer where it is one."""
    return int(value) if value == int(value) else float(value)
