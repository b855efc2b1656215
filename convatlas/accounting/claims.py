"""Checks what a source prints against what we count."""

from __future__ import annotations

import re
from decimal import Decimal

from ..catalogue import Claim
from .rows import Account

# quantity: (field of a row or of the totals, how many of them make one printed unit)
QUANTITIES = {
    "params": ("params", 1),
    "weights": ("weights", 1),
    "macs": ("macs", 1),
    "mmacs": ("macs", 10**6),
    "gmacs": ("macs", 10**9),
    "activations": ("activations", 1),
}
SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


def counted(claim: Claim, account: Account) -> int | None:
    """Our count of the quantity that a claim names; None for a quantity that is not counted."""
    what, _, path = claim.what.partition(" ")
    if what not in QUANTITIES:
        return None
    name, _ = QUANTITIES[what]
    if not path:
        return int(getattr(account.totals, name))
    rows = [r for r in account.rows if r.path == path or r.path.startswith(path + ".")]
    assert rows, f"{account.name} has no row at {path!r}, which a claim names"
    return sum(getattr(r, name) for r in rows if name != "activations" or not r.pointwise)


def printed_value(claim: Claim) -> tuple[Decimal, Decimal]:
    """The printed value of a countable claim and one unit in its last digit, both in counted units."""
    number = re.fullmatch(r"[~<]?\s*([\d,]+(?:\.\d+)?)\s*([KMGB]?)", claim.printed)
    assert number, f"claim {claim.printed!r} ({claim.where}) is not a number"
    digits = Decimal(number[1].replace(",", ""))
    _, per_unit = QUANTITIES[claim.what.partition(" ")[0]]
    scale = SUFFIXES[number[2]] * per_unit
    unit = Decimal(1).scaleb(int(digits.as_tuple().exponent)) * scale
    return digits * scale, unit


def holds(claim: Claim, account: Account) -> bool | None:
    """Whether our count matches the claim to one unit in its last digit; None for a quantity that is not counted."""
    ours = counted(claim, account)
    if ours is None:
        return None
    value, unit = printed_value(claim)
    return abs(Decimal(ours) - value) < unit
