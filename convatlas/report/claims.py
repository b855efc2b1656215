"""The ledger: the figures that sources print for networks, beside the counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..accounting.claims import holds
from ..accounting.rows import Account
from ..catalogue import Claim
from .account import claim_record
from .columns import claim_table
from .tables import Report, Table, label, number, prose

if TYPE_CHECKING:
    from ..accounting.start import Start

START_COLUMNS = (label("parameter or setting", "what"), number("tensors", "count"), prose("starts as", least=20))


def report(made: Iterable[tuple[Account, Sequence[Claim]]], start: tuple[str, Sequence[Start]] | None = None) -> Report:
    """Each network's claims, one per line, and how many of them hold; `start`, a net file and what its network starts
    from, is a second table."""
    all_of = [(counts, claim) for counts, claims in made for claim in claims]
    verdicts = [holds(claim, counts) for counts, claim in all_of]
    return Report(
        claim_table(all_of, networks=True),
        after=(
            f"{len(all_of)} figures: {verdicts.count(True)} hold, {verdicts.count(False)} do not, with a reason; "
            f"{verdicts.count(None)} are published results, which counting cannot check.",
            *(start_parts(*start) if start else ()),
        ),
        record={
            "claims": [claim_record(counts.name, claim, counts) for counts, claim in all_of],
            **({"start": [asdict(one) for one in start[1]]} if start else {}),
        },
    )


def start_parts(file: str, start: Sequence[Start]) -> tuple[str | Table, ...]:
    table = Table("start", START_COLUMNS, [(one.what, one.count, one.start) for one in start])
    return "", table, f"Measured on first weights (seed 0); {file} says what is printed about them, and where."
