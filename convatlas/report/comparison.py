"""Two networks side by side: what differs, what it costs, and which weights load from one into the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..accounting.diff import Diff, Pair
from ..accounting.rows import Row
from .columns import input_size, kernel_text, sides
from .tables import Report, Table, compact_signed, label, number, prose, signed, size
from .templates import render

if TYPE_CHECKING:
    from ..accounting.weight_match import WeightMatch

COLUMNS = (
    label("layer"),
    prose("difference"),
    number("parameters", brief="params", drop=2, show=signed, short=compact_signed),
    number("multiply-adds", brief="MACs", drop=1, show=signed, short=compact_signed),
    number("values", drop=3, show=signed, short=compact_signed),
)
WORDS = {"shape": "output", "path": "name", "op": "operation"}
LISTED = 6  # at most so many tensors of each kind are named in the summary


def report(of: Diff, match: WeightMatch | None = None, every: bool = False) -> Report:
    """The differences (with `every`, equal layers too), the totals, and which weights load."""
    return Report(
        table(of, every),
        before=(heading(of),),
        after=("\n".join([*summary(of), *(weights(of, match) if match else [])]),),
        record=record(of, match, every),
    )


def table(of: Diff, every: bool = False) -> Table:
    """One line per difference, and their total: how many more the second network has."""
    rows = [
        (_row(pair).path, difference(of, pair), pair.params, pair.macs, pair.activations) for pair in chosen(of, every)
    ]
    return Table("differences", COLUMNS, [*rows, ("total", "", of.params, of.macs, of.activations)])


def _row(pair: Pair) -> Row:
    row = pair.b or pair.a
    assert row is not None
    return row


def chosen(of: Diff, every: bool) -> Sequence[Pair]:
    return of.pairs if every else of.differences


def difference(of: Diff, pair: Pair) -> str:
    """In words: "stride 2 -> 1, output 128x28x28 -> 128x56x56"; "only in vgg16: MaxPool2d 2x2/2 pad 0, 64x112x112"."""
    if pair.a is None or pair.b is None:
        row, name = (pair.a, of.a.name) if pair.a else (pair.b, of.b.name)
        assert row is not None
        what = " ".join(word for word in (row.op, kernel_text(row)) if word)
        return f"only in {name}: {what}, {input_size(row.shape)}"
    return ", ".join(_change(name, pair.a, pair.b) for name in pair.changed) or ("" if pair.alike else "inside")


def _change(name: str, a: Row, b: Row) -> str:
    x, y = getattr(a, name), getattr(b, name)
    if isinstance(x, tuple) and isinstance(y, tuple):
        shown = input_size if name == "shape" else size if name == "kernel" else sides
        x, y = shown(x) if x else "none", shown(y) if y else "none"
    if isinstance(x, int):
        x, y = f"{x:,}", f"{y:,}"
    return f"{WORDS.get(name, name)} {x} -> {y}"


def heading(of: Diff) -> str:
    same = len(of.pairs) - 1 - len([p for p in of.differences if p is not of.pairs[0]])
    renamed = f" ({of.renamed} under another name)" if of.renamed else ""
    return f"{of.a.name} -> {of.b.name}, by {of.level}: {same} alike{renamed}, {len(of.differences)} different"


def summary(of: Diff) -> list[str]:
    """The totals of both, and the parameters that they leave out."""
    lines = []
    for what, name in (("parameters", "params"), ("multiply-adds", "macs"), ("activations", "activations")):
        x, y = getattr(of.a.totals, name), getattr(of.b.totals, name)
        more = "the same" if x == y else f"{y - x:+,}" + (f", {(y - x) / x:+.1%}" if x else "")
        lines.append(f"  {what:<14} {x:,} -> {y:,} ({more})")
    for counts in (of.a, of.b):
        lines += [f"  not counted    {counts.name}: {path}, {n:,} parameters" for path, n in counts.idle]
    return lines


def html(of: Diff, match: WeightMatch | None = None, every: bool = False) -> str:
    """A self-contained page."""
    return render(
        "diff.html",
        of=of,
        heading=heading(of),
        differences=table(of, every),
        summary=summary(of),
        weights=weights(of, match) if match else [],
    )


def record(of: Diff, match: WeightMatch | None = None, every: bool = False) -> dict[str, Any]:
    """As plain data. Costs are how many more the second network has."""
    costs = ("params", "macs", "activations")
    return {
        "networks": [of.a.name, of.b.name],
        "level": of.level,
        "alike": sum(pair.alike for pair in of.pairs),
        "renamed": of.renamed,
        "differences": [
            {
                "a": pair.a and {name: getattr(pair.a, name) for name in ("path", "op", "shape", *costs)},
                "b": pair.b and {name: getattr(pair.b, name) for name in ("path", "op", "shape", *costs)},
                "changed": {name: [getattr(pair.a, name), getattr(pair.b, name)] for name in pair.changed},
                **{name: getattr(pair, name) for name in costs},
            }
            for pair in chosen(of, every)
        ],
        "totals": {name: getattr(of, name) for name in costs},
        **({"weights": asdict(match)} if match else {}),
    }


def weights(of: Diff, match: WeightMatch) -> list[str]:
    """Which of the first network's tensors load into the second."""
    a, b = of.a.name, of.b.name
    n = sum(map(len, (match.same, match.renamed, match.reshaped, match.misfits, match.left_over)))
    if match.all_load:
        lines = [f"Weights: all {n} tensors of {a} load into {b}, by name and shape."]
        if match.same_wiring is False:
            lines.append(
                f"WARNING: same names and shapes, different wiring: the weights of {a} load into {b} without an error, "
                "but compute something else there."
            )
        return lines
    lines = [f"Weights: of the {n} tensors of {a}, {len(match.same)} load into {b} as they are."]
    arrows = [f"{x} -> {y}" for x, y in match.renamed]
    shapes = [f"{x} {size(s)} -> {y} {size(t)}" for x, y, s, t in match.reshaped]
    misfits = [f"{name} {size(s)} -> {size(t)}" for name, s, t in match.misfits]
    for what, names in (
        ("load under another name", arrows),
        ("load once reshaped", shapes),
        ("size mismatch", misfits),
        (f"unexpected in {b}", match.left_over),
        (f"missing from {a}", match.missing),
    ):
        if names:
            more = f" ... ({len(names) - LISTED} more)" if len(names) > LISTED else ""
            lines.append(f"  {len(names)} {what}: {', '.join(names[:LISTED])}{more}")
    return lines
