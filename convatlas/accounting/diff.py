"""Two networks aligned layer by layer: what differs, and what each difference costs. No torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import unknown
from .rows import LEVELS, Account, Row

COMPARED = ("path", "op", "kernel", "stride", "padding", "groups", "shape", "weights", "biases")
# what two layers may have in common, and how strongly it suggests that they correspond
ALIKE: tuple[tuple[Callable[[Row], Hashable], int], ...] = (
    (lambda row: row.path, 6),
    (lambda row: kind(row), 4),
    (lambda row: row.weights, 3),
    (lambda row: row.shape, 3),
    (lambda row: row.kernel, 2),
    (lambda row: row.op, 2),
    (lambda row: row.path.rpartition(".")[2], 1),
    (lambda row: row.shape[:1], 1),
    (lambda row: row.stride, 1),
)


@dataclass(frozen=True)
class Pair:
    """Two corresponding layers, one of each network, or (the other None) a layer that only one of them has."""

    a: Row | None
    b: Row | None

    @property
    def changed(self) -> tuple[str, ...]:
        """The columns of COMPARED in which the two differ; none where only one network has the layer."""
        if self.a is None or self.b is None:
            return ()
        return tuple(name for name in COMPARED if getattr(self.a, name) != getattr(self.b, name))

    @property
    def alike(self) -> bool:
        """The same layer, whatever its name; for blocks, the same costs, whatever their class."""
        if self.a is None or self.b is None or self.params or self.macs or self.activations:
            return False
        blocks = self.a.path == self.a.block and self.b.path == self.b.block
        return set(self.changed) <= ({"path", "op"} if blocks else {"path"})

    @property
    def params(self) -> int:
        """How many more the second has."""
        return self._more(lambda row: row.params)

    @property
    def macs(self) -> int:
        return self._more(lambda row: row.macs)

    @property
    def activations(self) -> int:
        """As the totals count them: an in-place operation adds none."""
        return self._more(lambda row: 0 if row.pointwise else row.activations)

    def _more(self, of: Callable[[Row], int]) -> int:
        return (of(self.b) if self.b else 0) - (of(self.a) if self.a else 0)


@dataclass(frozen=True)
class Diff:
    """Both networks' rows at a level, in order. The differences of the pairs add up to the difference of the totals."""

    a: Account
    b: Account
    level: str
    pairs: tuple[Pair, ...]  # the first is the input

    @property
    def differences(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if not pair.alike)

    @property
    def renamed(self) -> int:
        """Layers that differ only in name."""
        return sum(pair.alike and bool(pair.changed) for pair in self.pairs)

    @property
    def params(self) -> int:
        """How many more the second has."""
        return self.b.totals.params - self.a.totals.params

    @property
    def macs(self) -> int:
        return self.b.totals.macs - self.a.totals.macs

    @property
    def activations(self) -> int:
        return self.b.totals.activations - self.a.totals.activations


def diff(a: Account, b: Account, level: str = "layer") -> Diff:
    """Aligns the rows of two accounts. Raises UserError for an unknown level."""
    if level not in LEVELS:
        raise unknown("level", level, LEVELS)
    left, right = a.table(level), b.table(level)
    pairs = [Pair(left[i] if i >= 0 else None, right[j] if j >= 0 else None) for i, j in align(similarity(left, right))]
    images = (Row("input", "", n.input, activations=n.input_values) for n in (a, b))
    return Diff(a, b, level, (Pair(*images), *pairs))


def kind(row: Row) -> str:
    """The kind of a layer: conv, pool, linear, or its operation."""
    if row.kernel:
        return "conv" if row.weights else "pool"
    return "linear" if row.macs and not row.block_op else row.op.partition("+")[0]


def similarity(a: Sequence[Row], b: Sequence[Row]) -> np.ndarray:
    """The score (len(a), len(b)) of what each pair has in common; 0 where neither kind nor name is the same."""
    points = np.zeros((len(a), len(b)), np.int32)
    comparable = np.zeros((len(a), len(b)), bool)
    for at, (of, weight) in enumerate(ALIKE):
        codes: dict[Any, int] = {}
        left, right = (np.array([codes.setdefault(of(row), len(codes)) for row in rows]) for rows in (a, b))
        same = left.reshape(-1, 1) == right.reshape(1, -1)
        points += weight * same
        if at < 2:  # of the name, or of the kind
            comparable |= same
    return points * comparable


def align(points: np.ndarray) -> list[tuple[int, int]]:
    """The order-preserving alignment of rows with columns that has the highest score; -1 is a gap.

    Needleman and Wunsch (1970), with no gap penalty; among equals, gaps in the second come first.
    """
    n, m = points.shape
    best = np.zeros((n + 1, m + 1), np.int32)
    for i in range(n):
        np.maximum(best[i, 1:], best[i, :-1] + points[i], out=best[i + 1, 1:])
        np.maximum.accumulate(best[i + 1], out=best[i + 1])
    pairs = []
    i, j = n, m
    while i or j:
        if i and j and points[i - 1, j - 1] and best[i, j] == best[i - 1, j - 1] + points[i - 1, j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif j and best[i, j] == best[i, j - 1]:
            j -= 1
            pairs.append((-1, j))
        else:
            i -= 1
            pairs.append((i, -1))
    return pairs[::-1]
