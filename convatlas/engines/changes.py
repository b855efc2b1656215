"""Results beside older ones of the same things: what became slower, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot, log

from ..errors import UserError
from ..machine.facts import alike
from .results import Record


@dataclass(frozen=True)
class Change:
    """A new record beside the old one of its key: the ratio of their medians, and the interval of that ratio."""

    new: Record
    old: Record
    ratio: float | None = None  # new / old; None where either has no times
    low: float | None = None
    high: float | None = None

    def slower_than(self, share: float) -> bool:
        """Whether it is slower by more than `share`, by its median and by all of the interval; or no longer runs."""
        if self.ratio is None or self.low is None:
            return bool(self.new.failed) and not self.old.failed
        return min(self.ratio, self.low) > 1 + share


def changed(new: Record, old: Record) -> Change:
    """The interval reaches as far as both spreads together, p10 to p90 each, taken as independent of each other."""
    if new.seconds is None or old.seconds is None:
        return Change(new, old)
    (low, middle, high), (old_low, old_middle, old_high) = new.seconds.spread, old.seconds.spread
    ratio = middle / old_middle
    down = hypot(log(middle / low), log(old_high / old_middle))
    up = hypot(log(high / middle), log(old_middle / old_low))
    return Change(new, old, ratio, ratio * exp(-down), ratio * exp(up))


def changes(new: Sequence[Record], old: Sequence[Record], *, other_machine: bool = False) -> list[Change]:
    """Each new record with the last old one of the same key, where there is one.

    Raises UserError where no keys are the same, and, unless `other_machine`, where the old ones are of machines unlike.
    """
    pairs = [
        (record, [o for o in old if o.key == record.key and comparable(o)]) for record in new if comparable(record)
    ]
    pairs = [(record, found) for record, found in pairs if found]
    if not pairs:
        raise UserError(
            "no old result has the same model, engine, precision, threads, device, batch and image size as a new one",
            "measure what was measured before",
        )
    if not other_machine:
        there = pairs[0][1][-1].machine
        pairs = [(record, [o for o in found if alike(o.machine, record.machine)]) for record, found in pairs]
        pairs = [(record, found) for record, found in pairs if found]
        if not pairs:
            raise UserError(
                f"the old results are of another machine ({there.get('processor')}, {there.get('cores')} cores)",
                "measure both on one machine, or compare all the same with --other-machine",
            )
    return [changed(record, max(found, key=lambda o: o.date)) for record, found in pairs]


def comparable(record: Record) -> bool:
    """Whether it failed, or has a spread: what others publish has none."""
    return bool(record.failed) or bool(record.seconds and record.seconds.spread)


def unlike(new: Record, old: Record) -> str:
    """What differs between the two machines, in words: software too."""
    a, b = new.machine, old.machine
    parts = [
        f"{name} {b.get('versions', {}).get(name)} then, {version} now"
        for name, version in a.get("versions", {}).items()
        if b.get("versions", {}).get(name) != version
    ]
    if not alike(a, b):
        parts.insert(0, f"another machine: {b.get('processor')} then, {a.get('processor')} now")
    return "; ".join(parts)
