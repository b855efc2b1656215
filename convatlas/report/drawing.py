"""Drawings of networks: a box per row, an edge per tensor, laid out in layers from top to bottom or left to right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import log

from ..accounting.layer_graph import INPUT, Edge, LayerGraph, folded, layer_graph, shortcuts
from ..accounting.rows import Account, Row
from ..errors import unknown
from .columns import input_size, kernel_text
from .layout import DIRECTIONS, GAP, Placed, lay_out
from .tables import compact, size
from .templates import render

CHARACTER, BOLD = 7.3, 8.1  # px per character in the widest font a browser may use at 12 px; sets the size of boxes
LINE, PAD = 16, 10
STEM, TURN = 20, 16  # an edge leaves its box straight, with the shape beside it, then turns
HEAD = 5  # length of the arrowhead
MARGIN, FRAME, ARC = 24, 8, 20
SLIDE, MOST_ROWS, ROW_APART = 16 / 9, 12, 70  # drawings to the right are broken into rows to fit a slide
KINDS: dict[str, Callable[[Row], bool]] = {  # a box gets the colour of the first kind that matches its row
    "block": lambda row: bool(row.block) and row.path == row.block,
    "conv": lambda row: bool(row.kernel and row.weights),
    "pool": lambda row: bool(row.kernel) or "pool" in row.op.lower() or row.op == "mean",
    "linear": lambda row: bool(row.macs),
    "join": lambda row: row.op.split("+")[0] in ("add", "cat", "mul", "stack", "sub"),
}
LIGHT = {
    **{
        "paper": "#ffffff",
        "ink": "#1c2430",
        "soft": "#5b6777",
        "edge": "#8a97a8",
        "frame": "#f2f5f9",
        "rim": "#d3dae4",
    },
    **{"conv": "#d7e6fb", "pool": "#d4f0e3", "linear": "#fde5cc", "join": "#ead9f7", "block": "#dbe3f8"},
    **{"other": "#e9edf2", "end": "#1c2430", "on-end": "#ffffff"},
}
DARK = {
    **{
        "paper": "#12161c",
        "ink": "#e8edf4",
        "soft": "#a3afbf",
        "edge": "#66748a",
        "frame": "#1a2029",
        "rim": "#36414f",
    },
    **{"conv": "#1f3d66", "pool": "#1b4a3a", "linear": "#5b3d1d", "join": "#452f5c", "block": "#2b3a66"},
    **{"other": "#2c343f", "end": "#e8edf4", "on-end": "#12161c"},
}
Steps = tuple[tuple[str, tuple[float, ...]], ...]  # "M", "L" and "C" with their coordinates, as in SVG


@dataclass
class Box(Placed):
    """One row, or a run of equal rows, placed by its centre."""

    lines: tuple[str, ...] = ()
    kind: str = "other"
    title: str = ""  # tooltip
    row: int = INPUT
    shortcut: str = ""  # "identity" or "projection", for a block that adds one


@dataclass(frozen=True)
class Line:
    title: str
    steps: Steps
    edge: Edge | None = None  # None for a block's shortcut
    dashed: bool = False

    @property
    def path(self) -> str:
        return "".join(f"{kind}{','.join(f'{n:.1f}' for n in numbers)}" for kind, numbers in self.steps)


@dataclass(frozen=True)
class Label:
    """The shape of a box's output."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Frame:
    """The frame around the rows of one block."""

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
    arcs: list[Line] = field(default_factory=list)


def svg(counts: Account, level: str = "block", direction: str = "down", *, full: bool = False) -> str:
    """Draws the network: blocks and branches, with the shapes of the tensors between them.

    `level` is one of accounting.LEVELS, `direction` one of DIRECTIONS. Runs of equal blocks are one box unless `full`.
    Raises UserError if igraph is not installed (`pip install convatlas[draw]`).
    """
    return render("network.svg", drawing=drawing(counts, level, direction, full=full), light=LIGHT, dark=DARK)


def drawing(counts: Account, level: str = "block", direction: str = "down", *, full: bool = False) -> Drawing:
    if direction not in DIRECTIONS:
        raise unknown("direction", direction, DIRECTIONS)
    down = direction == "down"
    whole = layer_graph(counts, level)
    of, runs = (whole, {}) if full else folded(whole)
    boxes = dict(zip((INPUT, *of.drawn, len(of.rows)), _boxes(of, runs, shortcuts(counts)), strict=True))
    gap = GAP if down else max(GAP, 2 * STEM + TURN + max(len(_shapes(e.shapes)) for e in of.edges) * CHARACTER)
    beside = [(b.width if down else b.height) + 2 * ARC * bool(b.shortcut) for b in boxes.values()]
    ways = lay_out(boxes, of.edges, beside, down=down, gap=gap)
    _shift(boxes, ways, down)
    broken = {} if down else _wrap(boxes, of.edges, ways)
    frames = list(_frames(of, boxes, ways, down))
    arcs = [_arc(b, down) for b in boxes.values() if b.shortcut]
    caption = f"{of.name} on {input_size(of.input)}, by {of.level}"
    if arcs:
        caption += "; arcs: shortcuts" + (" (dashed: projections)" if any(a.dashed for a in arcs) else "")
    lines = [
        _back(e, boxes, broken[e]) if e in broken else _line(e, boxes, way, down, gap)
        for e, way in zip(of.edges, ways, strict=True)
    ]
    points = [numbers for line in (*lines, *arcs) for _, numbers in line.steps]
    right = max(
        *(b.right for b in boxes.values()),
        *(x for numbers in points for x in numbers[::2]),
        *(f.x + f.width for f in frames),
        len(caption) * 1.2 * BOLD,
    )
    bottom = max(
        *(b.bottom for b in boxes.values()),
        *(y for numbers in points for y in numbers[1::2]),
        *(f.y + f.height for f in frames),
    )
    labels = list(_labels(of, boxes, down))
    return Drawing(of.name, caption, right + MARGIN, bottom + MARGIN, list(boxes.values()), lines, labels, frames, arcs)


def _shift(boxes: dict[int, Box], ways: list[list[tuple[float, float]]], down: bool) -> None:
    """Shifts everything to start at the margins, below the caption."""
    top = MARGIN + 2 * LINE
    least = min(
        *((b.left if down else b.top) - (FRAME + ARC if b.shortcut else FRAME) for b in boxes.values()),
        *(across for way in ways for across, _ in way),
    )
    by_across, by_along = (MARGIN if down else top) - least, top if down else MARGIN + STEM
    for box in boxes.values():
        box.x, box.y = (box.x + by_across, box.y + by_along) if down else (box.x + by_along, box.y + by_across)
        box.layer_end += by_along
    for way in ways:
        way[:] = [(across + by_across, along + by_along) for across, along in way]


def _wrap(boxes: dict[int, Box], edges: Sequence[Edge], ways: list[list[tuple[float, float]]]) -> dict[Edge, float]:
    """Breaks a left-to-right drawing into rows, to come as close as possible to a slide's aspect ratio.

    A break is between two layers that one edge alone connects. Returns these edges, each with the y of its way back.
    """
    ends = sorted({b.layer_end for b in boxes.values()})
    layer = {row: ends.index(b.layer_end) for row, b in boxes.items()}
    starts = [min(b.left for row, b in boxes.items() if layer[row] == k) for k in range(len(ends))]
    reach: list[list[float]] = [[] for _ in ends]  # each layer's extent up and down
    for row, box in boxes.items():
        reach[layer[row]] += [box.top - (ARC if box.shortcut else FRAME + LINE), box.bottom + FRAME]
    layer_of = [[min(range(len(ends)), key=lambda k: abs(starts[k] - along)) for _, along in way] for way in ways]
    for way, layers in zip(ways, layer_of, strict=True):
        for (across, _), k in zip(way, layers, strict=True):
            reach[k].append(across)
    crossing = [[e for e in edges if layer[e.source] <= k < layer[e.target]] for k in range(len(ends) - 1)]
    cuts = [k for k, some in enumerate(crossing) if len(some) == 1]

    def rows(n: int) -> list[range]:
        """The layers in at most n rows of about equal length."""
        lasts = {min(cuts, key=lambda k: abs(ends[k] - ends[-1] * i / n)) for i in range(1, n)} if cuts else set()
        bounds = [0, *(k + 1 for k in sorted(lasts)), len(ends)]
        return [range(first, end) for first, end in pairwise(bounds)]

    def size_of(band: range) -> tuple[float, float, float]:
        """A row's length, top and bottom."""
        ys = [y for k in band for y in reach[k]]
        return ends[band[-1]] - starts[band[0]], min(ys), max(ys)

    def shape(some: list[range]) -> float:
        sizes = [size_of(band) for band in some]
        return max(length for length, *_ in sizes) / sum(bottom - top + ROW_APART for _, top, bottom in sizes)

    chosen = min((rows(n) for n in range(1, MOST_ROWS + 1)), key=lambda some: abs(log(shape(some) / SLIDE)))
    shift: list[tuple[float, float]] = []  # each layer's, in x and y
    backs: list[float] = []
    y = min(y for ys in reach for y in ys)
    for band in chosen:
        _, top, bottom = size_of(band)
        shift += [(starts[0] - starts[band[0]], y - top)] * len(band)
        backs += [y - ROW_APART / 2] * len(band)
        y += bottom - top + ROW_APART
    for way, layers in zip(ways, layer_of, strict=True):
        way[:] = [(across + shift[k][1], along + shift[k][0]) for (across, along), k in zip(way, layers, strict=True)]
    for row, box in boxes.items():
        dx, dy = shift[layer[row]]
        box.x, box.y, box.layer_end = box.x + dx, box.y + dy, box.layer_end + dx
    return {crossing[band[-1]][0]: backs[band[-1] + 1] for band in chosen[:-1]}


def _back(edge: Edge, boxes: dict[int, Box], y: float) -> Line:
    """The path from the end of one row to the start of the next, between the two."""
    start, end = boxes[edge.source], boxes[edge.target]
    right, left = start.right + 3 * STEM + len(_shapes(edge.shapes)) * CHARACTER, end.left - STEM
    corners = ((start.right, start.y), (right, start.y), (right, y), (left, y), (left, end.y), (end.left - HEAD, end.y))
    return Line(_title(edge, boxes), tuple(zip("MLLLLL", corners, strict=True)), edge)


def _boxes(of: LayerGraph, runs: dict[int, tuple[int, ...]], shortcut_of: dict[str, str]) -> Iterator[Box]:
    def box(lines: Sequence[str], kind: str, row: int, title: str = "", shortcut: str = "") -> Box:
        lines = tuple(line for line in lines if line)
        wide = max(len(lines[0]) * BOLD, *(len(line) * CHARACTER for line in lines)) + 2 * PAD
        height = len(lines) * LINE + PAD
        return Box(wide, height, lines=lines, kind=kind, title=title or lines[0], row=row, shortcut=shortcut)

    yield box(("input",), "end", INPUT)
    for i in of.drawn:
        row = of.rows[i]
        title = f"{row.path}: {row.op} {kernel_text(row)}; {row.params:,} parameters, {row.macs:,} multiply-adds"
        name, operation, cost = _name(of, row), _operation(row), _cost(row)
        if i in runs:
            last = of.rows[runs[i][-1]].path.rpartition(".")[2]
            name, operation, cost = f"{name} ... {last}", f"{len(runs[i])} times {operation}", f"{cost} each"
        shortcut = shortcut_of.get(row.path, "") if row.path == row.block else ""
        yield box((name, "" if operation == name else operation, cost), _kind(row), i, title, shortcut)
    yield box(("output",), "end", len(of.rows))


def _name(of: LayerGraph, row: Row) -> str:
    """The row's path: the block's if the block is a single row, else the part after the block's."""
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


def _at(point: tuple[float, float], down: bool) -> tuple[float, float]:
    """x and y of a point across and along the drawing's direction."""
    return point if down else point[::-1]


def _line(edge: Edge, boxes: dict[int, Box], way: list[tuple[float, float]], down: bool, gap: float) -> Line:
    """The edge's path: straight out of its box and into each layer; it moves sideways in the gaps between layers."""
    start, end = boxes[edge.source], boxes[edge.target]
    across, leaves, enters = (start.x, start.bottom, end.top) if down else (start.y, start.right, end.left)
    points: list[tuple[str, list[tuple[float, float]]]] = [("M", [(across, leaves)])]
    points.append(("L", [(across, start.layer_end + STEM)]))
    for i, (to, along) in enumerate(way):
        turn = along - gap + STEM if down else along - TURN - STEM
        if abs(to - across) > 0.5:
            points.append(("L", [(across, turn)]))
            middle = turn + TURN / 2
            points.append(("C", [(across, middle), (to, middle), (to, turn + TURN)]))
        across = to
        points.append(("L", [(to, along if i < len(way) - 1 else enters - HEAD)]))  # the arrowhead covers the rest
    steps = tuple((kind, tuple(n for point in some for n in _at(point, down))) for kind, some in points)
    return Line(_title(edge, boxes), steps, edge)


def _title(edge: Edge, boxes: dict[int, Box]) -> str:
    start, end = (boxes[row].title.split(":")[0] for row in (edge.source, edge.target))
    return f"{start} to {end}: {_shapes(edge.shapes)}"


def _arc(box: Box, down: bool) -> Line:
    """A block's shortcut, drawn along the side of its box."""
    if down:
        side, start, end = box.right, box.top + 4, box.bottom - 4
        far = side + ARC
        curve = (far, start, far, end, side + HEAD, end)
        begin = (side, start)
    else:
        side, start, end = box.top, box.left + 12, box.right - 12
        far = side - ARC
        curve = (start, far, end, far, end, side - HEAD)
        begin = (start, side)
    steps = (("M", begin), ("C", curve))
    return Line(f"{box.title.split(':')[0]}: {box.shortcut} shortcut", steps, dashed=box.shortcut == "projection")


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(size, shapes))


def _labels(of: LayerGraph, boxes: dict[int, Box], down: bool) -> Iterator[Label]:
    """The shape of each box's output, beside the edges that leave it."""
    for row, box in boxes.items():
        shapes = dict.fromkeys(s for e in of.edges if e.source == row for s in e.shapes)
        if shapes:
            x, y = (box.x + 6, box.bottom + 13) if down else (box.right + 6, box.y - 5)
            yield Label(x, y, _shapes(list(shapes)))


def _frames(
    of: LayerGraph, boxes: dict[int, Box], ways: Sequence[Sequence[tuple[float, float]]], down: bool
) -> Iterator[Frame]:
    """A frame around each block of several rows, unless another block's box would be inside it."""
    for block, inside in _framed(of, boxes).items():
        rows = {b.row for b in inside}
        left, right = min(b.left for b in inside) - FRAME, max(b.right for b in inside) + FRAME
        top, bottom = min(b.top for b in inside) - FRAME - LINE, max(b.bottom for b in inside) + FRAME
        first, last = (top, bottom) if down else (left, right)
        past = [
            across
            for e, way in zip(of.edges, ways, strict=True)
            if e.target in rows
            for across, along in way
            if first < along < last
        ]
        if down:
            left, right = min(left, *(x - FRAME for x in past)), max(right, *(x + FRAME for x in past))
        else:
            top, bottom = min(top, *(y - FRAME - LINE for y in past)), max(bottom, *(y + FRAME for y in past))
        others = [b for b in boxes.values() if b.row not in rows]
        if not any(b.left < right and b.right > left and b.top < bottom and b.bottom > top for b in others):
            yield Frame(f"{block} ({of.rows[inside[0].row].block_op})", left, top, right - left, bottom - top)


def _framed(of: LayerGraph, boxes: dict[int, Box]) -> dict[str, list[Box]]:
    """The blocks that consist of several boxes."""
    found: dict[str, list[Box]] = {}
    if of.level in ("layer", "leaf"):
        for i in of.drawn:
            found.setdefault(of.rows[i].block, []).append(boxes[i])
    return {block: inside for block, inside in found.items() if block and len(inside) > 1}
