"""How the rows of a network feed each other, and the path on which each sees least of the image: what is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UserError
from . import account
from .rows import Account, Row

if TYPE_CHECKING:
    from .receptive import Field
    from .trace import Trace

INPUT = -1  # the index of the network's input, among rows
FOLDED = 3  # a run of this many equal rows or more is drawn as one


class Narrow(NamedTuple):
    """A receptive field: height and width, and the first position's top and left pixel."""

    size: tuple[int, int]
    start: tuple[int, int]


@dataclass(frozen=True)
class Edge:
    """An output of one row that another reads; `target` is len(rows) for what the network returns."""

    source: int
    target: int
    shapes: tuple[tuple[int, ...], ...]  # of each tensor on this edge, without the batch


@dataclass(frozen=True)
class LayerGraph:
    """The rows at a level, in execution order, and the edges between them. Rows that run no operator have none."""

    name: str
    input: tuple[int, ...]
    level: str
    rows: tuple[Row, ...]
    edges: tuple[Edge, ...]
    narrowest: tuple[Narrow | None, ...]  # per row, along the branches that see least; None where no pixel is read

    @property
    def drawn(self) -> list[int]:
        """The rows that run an operator."""
        return sorted({i for e in self.edges for i in (e.source, e.target)} - {INPUT, len(self.rows)})


def layer_graph(counts: Account, level: str = "layer") -> LayerGraph:
    """Raises UserError for an unknown level, and for an account of neither a module nor a catalogue network."""
    from .count import row_nodes
    from .receptive import narrowest_fields

    traced = trace_of(counts)
    groups, fields = counts.groups(level), narrowest_fields(traced)
    row_of: dict[int, int] = {}  # node: the row at this level that contains it
    narrow: list[Field | None] = [None] * len(groups)
    level_of = (i for i, group in enumerate(groups) for _ in group)
    for i, leaf, (_, _, nodes) in zip(level_of, counts.rows, row_nodes(traced), strict=True):
        row_of.update((n, i) for n in nodes)
        if nodes and leaf.activations:
            narrow[i] = fields[nodes[-1]]
    sources: list[set[int]] = []  # per node: the rows that made its values (for a view, another node's)
    found: dict[tuple[int, int], dict[tuple[int, ...], None]] = {}
    for index, node in enumerate(traced.nodes):
        before = {i: {INPUT} if i < 0 else sources[i] for i in node.inputs}
        if index not in row_of:
            sources.append(set().union(*before.values()))
            continue
        sources.append({row_of[index]})
        for i, rows in before.items():
            shape = (traced.inputs[0] if i < 0 else traced.nodes[i].shape)[1:]
            for row in rows - {row_of[index]}:
                found.setdefault((row, row_of[index]), {})[shape] = None
    for index in traced.returned:
        if index >= 0:
            for row in sources[index]:
                found.setdefault((row, len(groups)), {})[traced.nodes[index].shape[1:]] = None
    return LayerGraph(
        counts.name,
        counts.input,
        level,
        counts.table(level),
        tuple(Edge(*ends, tuple(shapes)) for ends, shapes in found.items()),
        tuple(_narrow(f) if f else None for f in narrow),
    )


def _narrow(field: Field) -> Narrow:
    h, w = field.height, field.width
    return Narrow((h.size, w.size), (h.first, w.first))


def trace_of(counts: Account) -> Trace:
    """The counted network, traced again where the account was read from a shipped table."""
    if counts.trace is not None:
        return counts.trace
    from ..catalogue import variants

    again = account(counts.name, counts.input, counts.batch) if counts.name in variants() else None
    if again is None or again != counts or again.trace is None:
        raise UserError(f"{counts.name} was read without its graph", "count it again with account(module, input=...)")
    return again.trace


def folded(of: LayerGraph) -> tuple[LayerGraph, dict[int, tuple[int, ...]]]:
    """The graph in which a run of FOLDED or more equal rows, each fed only by the one before, becomes its first row.

    Also returns the rows that each such row replaces. Equal rows have the same operation, map, kernel and cost.
    """
    into, out = ends(of, "target"), ends(of, "source")

    def follows(a: int, b: int) -> bool:
        alone = [e.source for e in into[b]] == [a] and [e.target for e in out[a]] == [b]
        return alone and kind_of(of.rows[a]) == kind_of(of.rows[b])

    runs: list[list[int]] = []
    for i in of.drawn:
        if runs and follows(runs[-1][-1], i):
            runs[-1].append(i)
        else:
            runs.append([i])
    stands = {run[0]: tuple(run) for run in runs if len(run) >= FOLDED}
    first = {i: run[0] for run in stands.values() for i in run}
    edges = tuple(
        replace(e, source=first.get(e.source, e.source))
        for e in of.edges
        if e.source not in first or first.get(e.target) != first[e.source]
    )
    return replace(of, edges=edges), stands


def ends(of: LayerGraph, name: str) -> dict[int, list[Edge]]:
    """The edges by their "source" or "target"."""
    found: dict[int, list[Edge]] = {i: [] for i in (INPUT, *of.drawn, len(of.rows))}
    for edge in of.edges:
        found[getattr(edge, name)].append(edge)
    return found


def kind_of(row: Row) -> tuple[object, ...]:
    return row.op, row.block_op, row.shape, row.kernel, row.stride, row.groups, row.params, row.macs


def shortcuts(counts: Account) -> dict[str, str]:
    """ "identity" or "projection", by path, for each block that ends by adding a shortcut to its branch.

    The shortcut is the path with the fewest weighted layers from the block's input to its last addition: none, or one
    1x1 convolution.
    """
    of = layer_graph(counts, "leaf")
    into, blocks = ends(of, "target"), dict[str, list[int]]()
    for i in of.drawn:
        if of.rows[i].block:
            blocks.setdefault(of.rows[i].block, []).append(i)
    found = {}
    for block, inside in blocks.items():
        shortest: dict[int, list[int]] = {}  # per row: the number of weighted rows on the path with the fewest
        longest: dict[int, int] = {}
        kind = None
        for i in inside:
            before = [shortest.get(e.source, []) for e in into[i]]
            weighted = [i] if of.rows[i].macs else []
            shortest[i] = min(before, key=len) + weighted
            longest[i] = max(longest.get(e.source, 0) for e in into[i]) + len(weighted)
            if len(before) > 1:
                way = shortest[i]
                adds = of.rows[i].op == "add" and len(way) < longest[i]
                projects = len(way) == 1 and of.rows[way[0]].kernel == (1, 1)
                kind = "identity" if adds and not way else "projection" if adds and projects else None
        if kind:
            found[block] = kind
    return found
