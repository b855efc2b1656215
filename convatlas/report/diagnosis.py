"""What `doctor` found."""

from __future__ import annotations

from ..doctor import ERROR, Diagnosis
from .tables import Report, Table, label, prose


def report(found: Diagnosis) -> Report:
    """One line per finding, then the verdict."""
    columns = (label("level"), prose("finding", "what", least=30), prose("remedy"))
    rows = [(it.level, it.what, it.remedy or None) for it in found.findings]
    errors = sum(it.level == ERROR for it in found.findings)
    verdict = "is intact" if found.intact else f"has {errors} error{'s' * (errors > 1)}"
    return Report(
        Table("findings", columns, rows), after=(f"{found.path} ({found.kind}) {verdict}.",), record=found.to_json()
    )
