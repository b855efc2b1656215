"""Layered layout of boxes and the edges between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..accounting.layer_graph import Edge
from ..errors import UserError

DIRECTIONS = ("down", "right")
APART, GAP = 26, 60  # pixels between boxes, across and along the direction
WAY = 2  # width of an edge that passes boxes


@dataclass
class Placed:
    """A rectangle, placed by its centre."""

    width: float
    height: float
    x: float = 0
    y: float = 0
    layer_end: float = 0  # where its layer ends along the direction; other boxes in it may be longer

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2


def lay_out(
    boxes: Mapping[int, Placed], edges: Sequence[Edge], beside: Sequence[float], *, down: bool, gap: float
) -> list[list[tuple[float, float]]]:
    """Places the boxes; returns for each edge the points (across, along) where it enters a layer of boxes.

    Layers follow one another along the direction (down, or to the right), `gap` pixels apart; `beside` is the room that
    each box needs across it.

    igraph assigns layers, and an order in each with few crossings (Sugiyama et al., 1981). Positions within a layer
    minimise the weighted sum of distances across, a linear program (Gansner et al., 1993, section 4): edges that pass
    other layers, or are alone, have the highest priority to be straight, then edges between boxes.
    """
    try:
        import igraph
    except ImportError as error:
        raise UserError("drawing a network needs igraph", "install it with: pip install 'convatlas[draw]'") from error
    place = {row: i for i, row in enumerate(boxes)}
    graph = igraph.Graph(len(boxes), [(place[e.source], place[e.target]) for e in edges], directed=True)
    found = graph.layout_sugiyama(maxiter=200)
    points = [*found.coords, *(point for way in found.edge_routing for point in way)]  # boxes, then bends
    half = [*(room / 2 for room in beside), *[WAY / 2] * (len(points) - len(boxes))]
    layers: dict[int, list[int]] = {}
    for i in sorted(range(len(points)), key=lambda i: points[i][0]):
        layers.setdefault(round(points[i][1]), []).append(i)
    apart = [(i, j, half[i] + half[j] + APART) for layer in layers.values() for i, j in pairwise(layer)]
    pulls: list[tuple[int, int, float]] = []
    out, into = graph.outdegree(), graph.indegree()
    bend = len(boxes)
    chains = []
    for edge, way in zip(edges, found.edge_routing, strict=True):
        chain = [place[edge.source], *range(bend, bend + len(way)), place[edge.target]]
        bend += len(way)
        chains.append(chain)
        for i, j in pairwise(chain):
            from_box, to_box = i < len(boxes), j < len(boxes)
            alone = (not from_box or out[i] == 1) and (not to_box or into[j] == 1)
            pulls.append((i, j, 8.0 if alone else 3.0 if from_box and to_box else 1.0))
    pulls += [(i, 0, 0.05) for i in range(1, len(boxes))]  # a weak pull towards the input, so that no box drifts
    xs = _places(len(points), apart, pulls)
    starts, along = {}, 0.0
    for layer in sorted(layers):
        thick = max(b.height if down else b.width for b, (_, at) in zip(boxes.values(), points) if round(at) == layer)
        starts[layer] = (along, along + thick)
        along += thick + gap
    for box, x, (_, layer) in zip(boxes.values(), xs, points):
        middle = sum(starts[round(layer)]) / 2
        box.x, box.y = (x, middle) if down else (middle, x)
        box.layer_end = starts[round(layer)][1]
    return [[(xs[i], starts[round(points[i][1])][0]) for i in chain[1:]] for chain in chains]


def _places(n: int, apart: Sequence[tuple[int, int, float]], pulls: Sequence[tuple[int, int, float]]) -> list[float]:
    """x of n points: each (i, j, gap) of `apart` says x[j] - x[i] >= gap, each (i, j, weight) of `pulls` that
    weight * |x[i] - x[j]| counts."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    bounds: list[float] = []
    for i, j, gap in apart:
        rows += [len(bounds)] * 2
        columns += [i, j]
        values += [1.0, -1.0]
        bounds.append(-gap)
    for k, (i, j, _) in enumerate(pulls):  # |x[i] - x[j]| <= the k-th distance; the distances come after the positions
        for sign in (1.0, -1.0):
            rows += [len(bounds)] * 3
            columns += [i, j, n + k]
            values += [sign, -sign, -1.0]
            bounds.append(0.0)
    costs = [0.0] * n + [weight for _, _, weight in pulls]
    limits = coo_array((values, (rows, columns)), shape=(len(bounds), len(costs)))
    solved = linprog(costs, limits.tocsr(), bounds, bounds=[(None, None)] * n + [(0, None)] * len(pulls))
    assert solved.success, solved.message
    return list(map(float, solved.x[:n]))
