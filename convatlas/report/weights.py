"""Published weights, and what a weights file is."""

from __future__ import annotations

from collections.abc import Sequence

from ..weights.check import Checked
from ..weights.published import Published
from .tables import Report, Table, label, number, prose

MATCHED = 3  # rows of one shape whose notes are printed


def listing(rows: Sequence[Published], here: Sequence[bool]) -> Report:
    """Published weights, one per line; `here` says which are on this machine."""
    columns = (
        label("weights", "name"),
        number("top-1", "top1", short=None),
        number("top-5", "top5", short=None, drop=3),
        label("input", drop=2),
        label("licence", drop=1),
        label("here"),
    )
    lines = [
        (row.name, row.top1 or None, row.top5 or None, row.preprocess.input, row.licence, "yes" if it else "")
        for row, it in zip(rows, here, strict=True)
    ]
    return Report(
        Table("weights", columns, lines),
        after=("Accuracies are those that the source states; `convatlas weights get NAME` fetches, MODEL takes NAME.",),
        record={"weights": [{**record(row), "here": it} for row, it in zip(rows, here, strict=True)]},
    )


def record(row: Published) -> dict[str, object]:
    return {
        "name": row.name,
        "network": row.network,
        "source": row.source,
        "url": row.url,
        "digest": row.digest or None,
        "bytes": row.size,
        "licence": row.licence,
        "classes": row.classes,
        "preprocess": row.preprocess.to_json(),
        "top1": row.top1 or None,
        "top5": row.top5 or None,
        "protocol": row.protocol or None,
    }


def checked(found: Checked) -> Report:
    """What a weights file is."""
    columns = (label("network"), prose("matched"), prose("notes"))
    lines = [(row.variant.name, row.fit.how, "; ".join(said(row.fit.notes, row.fit.left_out))) for row in found.rows]
    known = found.published
    after = [f"These are {known.name}, {known.url}." if known else "No published weights have this digest."]
    if not known and found.format != "convatlas":
        after.append("How images were prepared is not in the file: say it with --preprocess.")
    if len(found.rows) > 1:
        after.append("Shapes do not tell these networks apart: say which with --network.")
    return Report(
        Table("fits", columns, lines),
        before=(
            f"{found.file}: {found.format}, {found.size:,} bytes, {found.tensors} tensors, {found.values:,} values",
            f"sha256 {found.sha256}",
        ),
        after=tuple(after),
        record=found.to_json(),
    )


def said(notes: Sequence[str], left_out: Sequence[str]) -> list[str]:
    return [*notes, *([f"left out, for training only: {', '.join(left_out)}"] if left_out else [])]
