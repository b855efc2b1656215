"""A network as SVG: a box a row, an edge a tensor, laid out in layers by igraph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..accounting.layer_graph import INPUT, Edge, LayerGraph, layer_graph
from ..accounting.rows import Account, Row
from ..errors import UserError
from .columns import input_size, kernel_text
from .tables import compact, size
from .templates import render

CHARACTER, BOLD = 7.3, 8.1  # pixels, of the widest fonts that a browser may take at 12 pixels; boxes are sized by them
LINE, PAD = 16, 10
GAP_X, GAP_Y = 26, 60  # between boxes
STEM, TURN = 20, 16  # what leaves a box goes straight down first, its shape beside it; then it turns
WAY = 2  # the width of an edge on its way past boxes
MARGIN, FRAME = 24, 8
KINDS: dict[str, Callable[[Row], bool]] = {  # what the colour of a box says: the first that fits its row
    "block": lambda row: bool(row.block) and row.path == row.block,
    "conv": lambda row: bool(row.kernel and row.weights),
    "pool": lambda row: bool(row.kernel) or "pool" in row.op.lower() or row.op == "mean",
    "linear": lambda row: bool(row.macs),
    "join": lambda row: row.op.split("+")[0] in ("add", "cat", "mul", "stack", "sub"),
}


@dataclass
class Box:
    """One row, by the middle of its rectangle."""

    lines: tuple[str, ...]
    kind: str
    title: str  # what a pointer over it shows
    row: int
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0
    low: float = 0  # where its layer ends, of boxes that may be higher

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


@dataclass(frozen=True)
class Line:
    edge: Edge
    path: str
    title: str


@dataclass(frozen=True)
class Label:
    """The shape of what leaves a box."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Frame:
    """Around the rows of one block."""

    name: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Drawing:
    name: str
    caption: str
    width: float
    height: float
    boxes: list[Box]
    lines: list[Line]
    labels: list[Label]
    frames: list[Frame]


def svg(counts: Account, level: str = "block") -> str:
    """The network drawn: blocks and branches, with the shapes of the tensors that go from one to the next.

    `level` is one of accounting.LEVELS. Raises UserError where igraph is not installed (`pip install convatlas[draw]`).
    """
    return render("network.svg", drawing=drawing(layer_graph(counts, level)))


def drawing(of: LayerGraph) -> Drawing:
    boxes = dict(zip((INPUT, *of.drawn, len(of.rows)), _boxes(of), strict=True))
    ways = lay_out(boxes, of.edges)
    frames = list(_frames(of, boxes, ways))
    caption = f"{of.name} on {input_size(of.input)}, by {of.level}"
    xs = [x for way in ways for x, _ in way]
    return Drawing(
        of.name,
        caption,
        max(*(b.right for b in boxes.values()), *xs, *(f.x + f.width for f in frames), len(caption) * 1.2 * BOLD)
        + MARGIN,
        max(b.bottom for b in boxes.values()) + MARGIN,
        list(boxes.values()),
        [_line(e, boxes, way) for e, way in zip(of.edges, ways, strict=True)],
        list(_labels(of, boxes)),
        frames,
    )


def _boxes(of: LayerGraph) -> Iterator[Box]:
    def box(lines: Sequence[str], kind: str, row: int, title: str = "") -> Box:
        lines = tuple(line for line in lines if line)
        wide = max(len(lines[0]) * BOLD, *(len(line) * CHARACTER for line in lines)) + 2 * PAD
        return Box(lines, kind, title or lines[0], row, width=wide, height=len(lines) * LINE + PAD)

    yield box(("input",), "end", INPUT)
    for i in of.drawn:
        row = of.rows[i]
        told = f"{row.path}: {row.op} {kernel_text(row)}; {row.params:,} parameters, {row.macs:,} multiply-adds"
        name, operation = _name(of, row), _operation(row)
        yield box((name, "" if operation == name else operation, _cost(row)), _kind(row), i, told)
    yield box(("output",), "end", len(of.rows))


def _name(of: LayerGraph, row: Row) -> str:
    """The path; of a block that is one row, the block's; in a block of several, what follows the block's."""
    if not row.block or of.level not in ("layer", "leaf"):
        return row.path
    several = sum(of.rows[i].block == row.block for i in of.drawn) > 1
    return row.path.removeprefix(row.block + ".") if several else row.block


def _operation(row: Row) -> str:
    shown = "+".join(op for op in row.op.split("+") if op not in ("Flatten", "Dropout", "Identity"))
    kernel = f"{size(row.kernel)}/{size(sorted(set(row.stride)))}" if row.kernel else ""
    groups = f" groups {row.groups}" if row.groups > 1 else ""
    return f"{shown or row.op} {kernel}{groups}".strip()


def _cost(row: Row) -> str:
    parts = (f"{compact(n)} {unit}" for n, unit in ((row.params, "params"), (row.macs, "MACs")) if n)
    return ", ".join(parts)


def _kind(row: Row) -> str:
    return next((kind for kind, fits in KINDS.items() if fits(row)), "other")


def lay_out(boxes: dict[int, Box], edges: Sequence[Edge]) -> list[list[tuple[float, float]]]:
    """Places the boxes; returns of each edge the points where it goes down into a layer of boxes.

    igraph finds layers, and an order in each with few crossings (Sugiyama et al., 1981). The places along a layer are
    those with the least weighted sum of horizontal distances, a linear program (Gansner et al., 1993, section 4): an
    edge past other layers, and one without company, is kept straight above all, then one between boxes.
    """
    try:
        import igraph
    except ImportError as error:
        raise UserError("drawing a network needs igraph", "install it with: pip install 'convatlas[draw]'") from error
    place = {row: i for i, row in enumerate(boxes)}
    graph = igraph.Graph(len(boxes), [(place[e.source], place[e.target]) for e in edges], directed=True)
    found = graph.layout_sugiyama(maxiter=200)
    points = [*found.coords, *(point for way in found.edge_routing for point in way)]  # boxes, then bends
    half = [*(b.width / 2 for b in boxes.values()), *[WAY / 2] * (len(points) - len(boxes))]
    layers: dict[int, list[int]] = {}
    for i in sorted(range(len(points)), key=lambda i: points[i][0]):
        layers.setdefault(round(points[i][1]), []).append(i)
    apart = [(i, j, half[i] + half[j] + GAP_X) for layer in layers.values() for i, j in pairwise(layer)]
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
    pulls += [(i, 0, 0.05) for i in range(1, len(boxes))]  # below the input, rather than adrift
    xs = _places(len(points), apart, pulls)
    left = MARGIN + FRAME - min(x - h for x, h in zip(xs, half, strict=True))

    tops, y = {}, MARGIN + 2.0 * LINE
    for layer in sorted(layers):
        height = max(b.height for b, (_, at) in zip(boxes.values(), points) if round(at) == layer)
        tops[layer] = (y, y + height)
        y += height + GAP_Y
    for box, x, (_, layer) in zip(boxes.values(), xs, points):
        box.x, box.y, box.low = x + left, sum(tops[round(layer)]) / 2, tops[round(layer)][1]
    return [[(xs[i] + left, tops[round(points[i][1])][0]) for i in chain[1:]] for chain in chains]


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
    for k, (i, j, _) in enumerate(pulls):  # |x[i] - x[j]| <= the k-th of the distances, which follow the places
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


def _line(edge: Edge, boxes: dict[int, Box], way: list[tuple[float, float]]) -> Line:
    """Straight down out of a box and into every layer; what goes sideways does so right below a layer."""
    start, end = boxes[edge.source], boxes[edge.target]
    x, low = start.x, start.low
    path = f"M{x:.1f},{start.bottom:.1f}V{low + STEM:.1f}"
    for i, (to, top) in enumerate(way):
        turn = top - GAP_Y + STEM
        if abs(to - x) > 0.5:
            path += (
                f"V{turn:.1f}C{x:.1f},{turn + TURN / 2:.1f} {to:.1f},{turn + TURN / 2:.1f} {to:.1f},{turn + TURN:.1f}"
            )
        x = to
        path += f"V{top if i < len(way) - 1 else end.top - 5:.1f}"  # the arrow's head takes the rest
    return Line(edge, path, f"{start.title.split(':')[0]} to {end.title.split(':')[0]}: {_shapes(edge.shapes)}")


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(size, shapes))


def _labels(of: LayerGraph, boxes: dict[int, Box]) -> Iterator[Label]:
    """Below each box the shapes of what leaves it."""
    for row, box in boxes.items():
        shapes = dict.fromkeys(s for e in of.edges if e.source == row for s in e.shapes)
        if shapes:
            yield Label(box.x + 6, box.bottom + 13, _shapes(list(shapes)))


def _frames(of: LayerGraph, boxes: dict[int, Box], ways: Sequence[Sequence[tuple[float, float]]]) -> Iterator[Frame]:
    """A frame around each block of several rows, where no box of another stands in it."""
    for block, inside in _framed(of, boxes).items():
        top, bottom = min(b.top for b in inside) - FRAME - LINE, max(b.bottom for b in inside) + FRAME
        rows = {b.row for b in inside}
        past = [
            x for e, way in zip(of.edges, ways, strict=True) if e.target in rows for x, y in way if top < y < bottom
        ]
        left, right = (
            min(*(b.left for b in inside), *past) - FRAME,
            max(*(b.right for b in inside), *past) + FRAME,
        )
        others = [b for b in boxes.values() if b.row not in rows]
        if not any(b.left < right and b.right > left and b.top < bottom and b.bottom > top for b in others):
            yield Frame(f"{block} ({of.rows[inside[0].row].block_op})", left, top, right - left, bottom - top)


def _framed(of: LayerGraph, boxes: dict[int, Box]) -> dict[str, list[Box]]:
    """The blocks that are several boxes."""
    found: dict[str, list[Box]] = {}
    if of.level in ("layer", "leaf"):
        for i in of.drawn:
            found.setdefault(of.rows[i].block, []).append(boxes[i])
    return {block: inside for block, inside in found.items() if block and len(inside) > 1}
