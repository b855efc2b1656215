"""What `doctor` found."""

from __future__ import annotations

from ..doctor import ERROR, Diagnosis
from ..errors import one_line
from .tables import Report, Table, label, prose


def report(found: Diagnosis) -> Report:
    """One line per finding, then the verdict."""
    columns = (label("level"), prose("finding", "what", least=30), prose("remedy"))
    rows = [(it.level, it.what, it.remedy or None) for it in found.findings]
    errors = sum(it.level == ERROR for it in found.findings)
    verdict = "is intact" if found.intact else f"has {errors} error{'s' * (errors > 1)}"
    verdict = f"{one_line(found.path)} ({found.kind}) {verdict}."
    return Report(Table("findings", columns, rows), after=(verdict,), record=found.to_json())
