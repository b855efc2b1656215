"""Estimated latencies, and what they are estimated from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .tables import Report, Table, label, number

if TYPE_CHECKING:
    from ..engines.latency.profile import Estimate, Profile


def calibrated(profile: Profile, file: Path) -> Report:
    """A profile: the weight of each feature, and where it is kept."""
    columns = (label("feature"), number("weight", show=lambda n: f"{n:.3f}", short=None))
    rows = [(name, round(weight, 6)) for name, weight in profile.seconds.items() if weight]
    return Report(
        Table("features", columns, rows),
        after=(
            f"{profile.key}, on {profile.key.processor}: from {profile.chains} random networks, kept as {file}.",
            f"9 of 10 take {profile.low:.2f} to {profile.high:.2f} times the estimate.",
        ),
        record={**asdict(profile), "file": str(file)},
    )


def lines(estimates: Sequence[Estimate]) -> list[str]:
    """As `show --latency` prints them after a network's totals."""
    batch = estimates[0].batch
    images = "one image" if batch == 1 else f"{batch} images"
    first = f"  latency        of {images}, estimated (9 of 10 lie in the interval), on {estimates[0].key.processor}:"
    return [first, *(f"                 {found}: {found.key}" for found in estimates)]
