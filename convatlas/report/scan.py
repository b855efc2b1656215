"""The problems found in a set of images."""

from __future__ import annotations

from collections import Counter

from ..data.check import scan
from .tables import Report, Table, label, prose


def report(found: scan.Report) -> Report:
    """One line per finding, and how many there are of each kind."""
    counts = Counter(finding.kind for finding in found.findings)
    what = ", ".join(f"{n} {kind}" for kind, n in counts.items()) or "nothing wrong"
    rows = [(finding.kind, finding.text) for finding in found.findings]
    return Report(
        Table("findings", (label("kind"), prose("finding", "text")), rows),
        after=(f"{found.images:,} images: {what}",),
        record=found.to_json(),
    )
