"""FractalNet's drop-path plans, to be read beside section 3.1: which inputs the joins of a network keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Plan:
    """Which inputs the joins of a network keep: `kept[block][row - 1]` are columns, counted from 1.

    Row r of a block comes after r convolutions of its deepest column; the columns that end there are joined.
    """

    kept: tuple[tuple[tuple[int, ...], ...], ...]


def ending(columns: int, row: int) -> tuple[int, ...]:
    """The columns in which a convolution ends at that row."""
    return tuple(c for c in range(1, columns + 1) if row % 2 ** (columns - c) == 0)


def _plan(blocks: int, columns: int, keep: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Plan:
    rows = range(1, 2 ** (columns - 1) + 1)
    return Plan(tuple(tuple(keep(ending(columns, row)) for row in rows) for _ in range(blocks)))


def whole(blocks: int, columns: int) -> Plan:
    """Nothing is dropped."""
    return _plan(blocks, columns, lambda inputs: inputs)


def only(blocks: int, columns: int, column: int) -> Plan:
    """Only one column of the whole network is kept."""
    return _plan(blocks, columns, lambda inputs: (column,) if column in inputs else ())


def drop_path_plan(
    blocks: int, columns: int, seed: int, step: int, *, local: float = 0.15, global_share: float = 0.5
) -> Plan:
    """The plan of a mini-batch, section 3.1: one for each (seed, step), the same on every machine.

    A fraction of the plans are global: one column of the whole network is kept. In the others each join drops each of
    its inputs with probability `local`, and keeps a random one if that would leave none.
    """
    draw = Random(f"{seed} {step}")
    if draw.random() < global_share:
        return only(blocks, columns, draw.randint(1, columns))

    def keep(inputs: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(c for c in inputs if draw.random() >= local) or (draw.choice(inputs),)

    return _plan(blocks, columns, keep)
