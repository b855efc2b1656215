"""What a report says of each row and of each claim: headers, and cells to go below them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from ..accounting.claims import counted, holds
from ..accounting.rows import Account, Row
from ..catalogue import Claim


class Columns(NamedTuple):
    headers: tuple[str, ...]
    left: int  # how many of them, from the left, are text and no numbers
    cells: Callable[[Row, Account, bool], tuple[str, ...]]  # with True, numbers without separators, for programs


def size(shape: Iterable[object]) -> str:
    return "x".join(map(str, shape))


def short(pair: tuple[int, ...]) -> str:
    """One number where both sides are alike."""
    return str(pair[0]) if len(set(pair)) == 1 else size(pair)


def geometry(row: Row) -> str:
    """Kernel/stride/padding as papers write them: "3x3/2 pad 1", with the groups where there are several."""
    if not row.kernel:
        return ""
    pad = row.padding if isinstance(row.padding, str) else short(row.padding)
    groups = f" groups {row.groups}" if row.groups > 1 else ""
    return f"{size(row.kernel)}/{short(row.stride)} pad {pad}{groups}"


def _costs(row: Row, counts: Account, exact: bool) -> tuple[str, ...]:
    number = str if exact else "{:,}".format
    numbers = (row.weights, row.params, row.macs, row.activations, row.activations * counts.value_bytes)
    return row.path, row.op, size(row.shape), geometry(row), *map(number, numbers)


COSTS = Columns(
    ("layer", "operation", "output", "kernel", "weights", "parameters", "multiply-adds", "values", "bytes"), 4, _costs
)


def _receptive(row: Row, counts: Account, exact: bool) -> tuple[str, ...]:
    if not row.receptive_field:
        return row.path, row.op, size(row.shape), geometry(row), "", "", "", "", ""
    numbers = (row.receptive_field, row.jump, row.start, row.field_padding)
    return row.path, row.op, size(row.shape), geometry(row), *map(short, numbers), "yes" if row.exact else "no"


RECEPTIVE = Columns(
    ("layer", "operation", "output", "kernel", "field", "jump", "start", "padding", "exact"), 4, _receptive
)

FIELDS_NOTE = """\
field: the pixels of the image, height x width, that a position of the output is computed from; jump: pixels from one
position's field to the next one's, 0 where all see the same; start: the first position's first pixel, negative in the
padding; padding: what one convolution of that size and stride would have. Not exact: not every pixel of the field is
seen (holes), a gate (SE) averages the whole map, which is left out, or an operator has no rule (it sees no more)."""


def input_row(counts: Account) -> Row:
    row = Row("input", "", counts.input, activations=counts.input_values)
    if len(counts.input) == 3 and not isinstance(counts.input[0], tuple):  # an image: each pixel sees itself
        return replace(row, receptive_field=(1, 1), jump=(1, 1), start=(0, 0), exact=True)
    return row


CLAIMS = ("claim", "printed", "counted", "", "where")


def claim_cells(claim: Claim, counts: Account) -> tuple[str, ...]:
    """What, printed, counted, verdict, where."""
    ours = counted(claim, counts)
    if ours is None:
        return claim.what, claim.printed, "", "published", claim.where
    return claim.what, claim.printed, f"{ours:,}", "holds" if holds(claim, counts) else f"gap: {claim.gap}", claim.where


def input_size(shape: tuple[Any, ...]) -> str:
    """ "3x224x224"; of several inputs, each."""
    shapes = shape if shape and isinstance(shape[0], tuple) else (shape,)
    return ", ".join(map(size, shapes))


def values_of(row: Row) -> int:
    """The output values that a row adds to the total: none where they could overwrite the input."""
    return 0 if row.pointwise else row.activations
