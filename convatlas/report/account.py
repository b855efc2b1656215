"""Reports on an account: layer table, totals, and the paper's claims; docs/reports.md explains every column and key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..accounting.claims import counted, holds
from ..accounting.rows import Account, Row
from ..catalogue import Claim
from ..tables import claims, index, load
from .columns import COSTS, FIELDS_NOTE, RECEPTIVE, claim_table, input_size
from .latency import lines as latency_lines
from .tables import Report, Table, json_text

if TYPE_CHECKING:
    from ..accounting.counters.reconcile import Reconciled
    from ..accounting.symbolic import LargestInput
    from ..engines.latency.profile import Estimate


def report(
    counts: Account,
    level: str = "layer",
    *,
    receptive: bool = False,
    epoch: int | None = None,
    convention: Reconciled | None = None,
    latency: Sequence[Estimate] = (),
) -> Report:
    """What `convatlas show` prints, for any account: claims, the table at a level, and the totals; or receptive fields
    instead of costs and totals.

    `epoch` (a number of images) adds the cost of training on that many, `convention` the total of another counter,
    `latency` estimated times.
    """
    columns = RECEPTIVE if receptive else COSTS
    lines = summary(counts)
    if epoch:
        macs = counts.totals.training_macs // counts.batch * epoch
        lines.append(f"  training       {macs:,} in an epoch of {epoch:,} images")
    made = record(counts, level)
    if convention:
        tool, unit, total = convention.tool, convention.unit, convention.total
        lines.append(f"  convention     {total:,} {unit}, as {tool} counts (`reconcile` says why)")
        made["convention"] = {"tool": tool, "unit": unit, "total": total}
    if latency:
        lines += latency_lines(latency)
        made["latency"] = [found.to_json() for found in latency]
    return Report(
        columns.table(counts, level),
        before=("\n".join(heading(counts)), *claim_parts(counts)),
        after=(FIELDS_NOTE if receptive else "\n".join(lines),),
        record=made,
        data=columns.table(counts, level, input=False),
    )


def under_lines(name: str, budget: str, batch: int, found: LargestInput) -> list[str]:
    """The largest square image within a budget of multiply-adds, and the next larger one."""
    images = "" if batch == 1 else f", {batch} images at a time"
    return [
        f"{name} under {budget}{images}:",
        f"  {found.side}x{found.side} pixels take {found.macs:,} multiply-adds",
        f"  {found.next_side}x{found.next_side} pixels would take {found.next_macs:,}",
    ]


def text(counts: Account, level: str = "layer", width: int | None = None) -> str:
    """As `convatlas show` prints it, with no line longer than `width`, if given."""
    return report(counts, level).text(width)


def markdown(counts: Account, level: str = "layer") -> str:
    return report(counts, level).markdown()


def csv(counts: Account, level: str = "layer") -> str:
    """One line per row, numbers without thousands separators."""
    return report(counts, level).csv()


def json(counts: Account, level: str = "layer") -> str:
    return json_text(record(counts, level))


def claim_parts(counts: Account) -> list[str | Table]:
    """The claims about the whole network, and one line on those about single layers (`convatlas claims` lists them)."""
    made = claims_of(counts)
    whole, layers = ([claim for claim in made if (" " in claim.what) is single] for single in (False, True))
    parts: list[str | Table] = [claim_table([(counts, claim) for claim in whole])] if whole else []
    if layers:
        held = sum(bool(holds(claim, counts)) for claim in layers)
        parts.append(
            f"{held} of {len(layers)} figures printed for single layers hold (`convatlas claims {counts.name}`)."
        )
    return parts


def record(counts: Account, level: str = "layer") -> dict[str, Any]:
    """The account as plain data: the network, its claims (if it is exactly the catalogue's), totals, rows."""
    entry = entry_of(counts)
    about = {k: entry[k] for k in ("name", "family", "file", "paper", "note", "recipe")} if entry else {}
    made = claims_of(counts)
    return {
        "name": counts.name,
        **about,
        **({"claims": [claim_record(counts.name, c, counts) for c in made]} if is_stock(counts) else {}),
        "input": counts.input,
        "batch": counts.batch,
        "depth": counts.depth,
        "statistics": counts.statistics,
        "level": level,
        "totals": counts.totals.to_json(),
        "idle": dict(counts.idle),
        "unregistered": dict(counts.unregistered),
        "uncounted": counts.uncounted,
        "rows": [row_record(row, counts) for row in counts.table(level)],
    }


def row_record(row: Row, counts: Account) -> dict[str, Any]:
    return row._asdict() | {"params": row.params, "bytes": row.activations * counts.value_bytes}


def claim_record(name: str, claim: Claim, counts: Account) -> dict[str, Any]:
    return {"network": name, **vars(claim), "counted": counted(claim, counts), "holds": holds(claim, counts)}


def entry_of(counts: Account) -> dict[str, Any] | None:
    """The network's entry in the catalogue's index; None if it has none."""
    return index().get(counts.name)


def is_stock(counts: Account) -> bool:
    """Whether this is exactly the catalogue's network, on its default input: the one that the claims are about."""
    return counts.name in index() and counts == load(counts.name)


def claims_of(counts: Account) -> list[Claim]:
    return claims(counts.name) if is_stock(counts) else []


def heading(counts: Account) -> list[str]:
    entry = entry_of(counts)
    if entry is None:
        return [counts.name]
    paper = entry["paper"]
    return [
        f"{entry['name']}: {paper['title']} ({paper['authors']}, {paper['year']}), {paper['url']}",
        *([entry["note"]] if entry["note"] else []),
        f"file {entry['file']}" + (f", recipe {entry['recipe']}" if entry["recipe"] else ""),
    ]


def inputs(counts: Account) -> str:
    """What the figures are for: "an image of 3x224x224", "5 images of 3x32x32", "2 inputs of 7"."""
    if counts.input and isinstance(counts.input[0], tuple):
        what = "a set of inputs", "sets of inputs"
    else:
        what = ("an image", "images") if len(counts.input) == 3 else ("an input", "inputs")
    number = what[0] if counts.batch == 1 else f"{counts.batch:,} {what[1]}"
    return f"{number} of {input_size(counts.input)}" if counts.input else number


def summary(counts: Account) -> list[str]:
    """The totals in words; what was not counted; whether the count is partial."""
    t = counts.totals
    stored, kept = t.activations * counts.value_bytes, t.pointwise_activations * counts.value_bytes
    lines = [
        f"For {inputs(counts)}:",
        f"  parameters     {t.params:,} ({t.weights:,} without biases), {t.params * counts.value_bytes / 1e6:,.2f} MB",
        f"  multiply-adds  {t.macs:,} (convolutions and matrix products; no biases, batch norm, pooling, activations)",
        f"                 {t.training_macs:,} in training, forward and backward; depth {counts.depth}",
        f"  activations    {t.activations:,} values, {stored / 1e6:,.2f} MB (the input and every layer's output;",
        f"                 outputs of ReLU, batch norm, additions kept as well: {kept / 1e6:,.2f} MB more)",
    ]
    if counts.statistics:
        what = "running means and variances of batch norm, which Keras counts"
        lines.append(f"  not counted    {counts.statistics:,} {what}")
    for path, n in counts.idle:
        lines.append(f"  not counted    {path}: {n:,} parameters that this pass does not use")
    for path, n in counts.unregistered:
        lines.append(
            f"  not counted    {path}: {n:,} parameters are not registered: in a plain list, dict or other object,"
        )
        lines.append("                 where parameters(), to(), state_dict() and optimizers do not find them")
    if counts.uncounted:
        lines.append(f"  PARTIAL: no rule for {', '.join(counts.uncounted)}")
    return lines
