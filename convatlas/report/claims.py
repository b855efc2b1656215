"""The ledger: the figures that sources print for networks, beside the counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..accounting.claims import holds
from ..accounting.rows import Account
from ..catalogue import Claim
from .account import claim_record
from .columns import claim_table
from .tables import Report


def report(made: Iterable[tuple[Account, Sequence[Claim]]]) -> Report:
    """Each network's claims, one per line, and how many of them hold."""
    all_of = [(counts, claim) for counts, claims in made for claim in claims]
    verdicts = [holds(claim, counts) for counts, claim in all_of]
    return Report(
        claim_table(all_of, networks=True),
        after=(
            f"{len(all_of)} figures: {verdicts.count(True)} hold, {verdicts.count(False)} do not, with a reason; "
            f"{verdicts.count(None)} are published results, which counting cannot check.",
        ),
        record={"claims": [claim_record(counts.name, claim, counts) for counts, claim in all_of]},
    )
