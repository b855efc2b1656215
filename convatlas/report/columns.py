"""Tables of an account's rows and of its sources' claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..accounting.claims import counted, holds
from ..accounting.rows import Account, Row
from ..catalogue import Claim
from .tables import Column, Table, label, number, prose, size


class Columns(NamedTuple):
    """The columns of a table of an account's rows."""

    columns: tuple[Column, ...]
    cells: Callable[[Row, Account], tuple[Any, ...]]

    def table(self, counts: Account, level: str, *, input: bool = True) -> Table:
        """The rows at a level; the first is the input image, unless `input` is False."""
        rows = (*((input_row(counts),) if input else ()), *counts.table(level))
        return Table("rows", self.columns, [self.cells(row, counts) for row in rows])


def sides(pair: tuple[float, ...]) -> str:
    """One number if both sides are equal."""
    return "x".join(f"{n:.3g}" if isinstance(n, float) else str(n) for n in (pair[:1] if len(set(pair)) == 1 else pair))


def kernel_text(row: Row) -> str:
    """Kernel, stride and padding as papers write them: "3x3/2 pad 1", with the groups if there is more than one."""
    if not row.kernel:
        return ""
    pad = row.padding if isinstance(row.padding, str) else sides(row.padding)
    groups = f" groups {row.groups}" if row.groups > 1 else ""
    return f"{size(row.kernel)}/{sides(row.stride)} pad {pad}{groups}"


def _place(row: Row) -> tuple[Any, ...]:
    return row.path, row.op, row.shape, kernel_text(row)


def _costs(row: Row, counts: Account) -> tuple[Any, ...]:
    numbers = row.weights, row.params, row.macs, row.activations, row.activations * counts.value_bytes
    return *_place(row), *numbers


def _receptive(row: Row, _: Account) -> tuple[Any, ...]:
    if not row.receptive_field:
        return *_place(row), None, None, None, None, None
    return *_place(row), *map(sides, (row.receptive_field, row.jump, row.start, row.field_padding)), row.exact


COSTS = Columns(
    (
        label("layer"),
        label("operation", drop=4),
        label("output", drop=1),
        label("kernel", drop=2),
        number("weights", drop=6),
        number("parameters", brief="params"),
        number("multiply-adds", brief="MACs"),
        number("values", drop=3),
        number("bytes", drop=5),
    ),
    _costs,
)
RECEPTIVE = Columns(
    (
        label("layer"),
        label("operation", drop=5),
        label("output", drop=3),
        label("kernel", drop=4),
        number("field", short=None),
        number("jump", short=None),
        number("start", drop=1, short=None),
        number("padding", drop=2, short=None),
        label("exact"),
    ),
    _receptive,
)

FIELDS_NOTE = """\
field: the pixels of the image, height x width, that an output position depends on; jump: pixels between the fields of
adjacent positions, 0 if all see the same; start: first pixel of the first position's field, negative in the padding;
padding: that of a single convolution with this field and jump. Not exact: the field has holes, a gate (SE) averages
the whole map (not included), or an operator has no rule (the field is an upper bound)."""


def input_row(counts: Account) -> Row:
    row = Row("input", "", counts.input, activations=counts.input_values)
    if len(counts.input) == 3 and not isinstance(counts.input[0], tuple):  # an image: each pixel sees itself
        return row._replace(receptive_field=(1, 1), jump=(1, 1), start=(0, 0), exact=True)
    return row


SHORT_VERDICTS = {"holds": "yes", "gap": "no", "published": ""}
VERDICTS = {True: "holds", False: "gap", None: "published"}  # None: counting cannot check it
CLAIM_COLUMNS = (
    prose("claim", least=1),
    label("printed"),
    number("counted", drop=1),
    Column("verdict", short=SHORT_VERDICTS.__getitem__, brief="holds"),
    prose("where", drop=3),
    prose("gap", drop=2),
)


def claim_table(claims: Sequence[tuple[Account, Claim]], *, networks: bool = False) -> Table:
    """Each claim beside its count; with `networks`, also its network; a `gap` column only if any claim has one."""
    table = Table("claims", CLAIM_COLUMNS, [claim_cells(claim, counts) for counts, claim in claims])
    if networks:
        rows = [(counts.name, *row) for (counts, _), row in zip(claims, table.rows, strict=True)]
        table = Table("claims", (label("network"), *CLAIM_COLUMNS), rows)
    return table if any(claim.gap for _, claim in claims) else table.without(table.columns[-1])


def claim_cells(claim: Claim, counts: Account) -> tuple[Any, ...]:
    """The cells of CLAIM_COLUMNS."""
    verdict = VERDICTS[holds(claim, counts)]
    return claim.what, claim.printed, counted(claim, counts), verdict, claim.where, claim.gap


def input_size(shape: tuple[Any, ...]) -> str:
    """ "3x224x224"; for several inputs, each of them."""
    shapes = shape if shape and isinstance(shape[0], tuple) else (shape,)
    return ", ".join(map(size, shapes))
