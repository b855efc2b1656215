"""Costs as exact functions of the image size, the batch and the classes, evaluated in microseconds.

A map's side follows from the image's by (n - c) // s + 1 at each strided or unpadded layer. All layers whose maps have
the same sides are one term, so multiply-adds are a sum, over the few map sizes of a network, of
height x width x (a + b x classes). `Symbolic` derives the sides and the coefficients from two passes over the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any

from torch import nn

from ..catalogue import Shape, Variant, find
from ..errors import UserError
from ..layers import on_meta
from .inputs import meta_inputs
from .operators import in_place, without_values
from .resolve import is_file, resolve
from .trace import Node, Trace, trace

GROWN = ((0, 31), (1, 15))  # pixels added to height and width in the two passes: even and odd sides at every depth
POOLS = ("max_pool2d_with_indices", "avg_pool2d")
ADAPTIVE = ("_adaptive_avg_pool2d", "adaptive_max_pool2d")  # to a fixed size


@dataclass(frozen=True)
class Counts:
    """Named as in the totals of `account`; for the whole batch."""

    params: int
    macs: int
    activations: int
    pointwise_activations: int


@dataclass(frozen=True, slots=True)
class _Linear:
    """a + b x classes."""

    a: int
    b: int = 0

    def __call__(self, classes: int) -> int:
        return self.a + self.b * classes

    def __add__(self, other: _Linear) -> _Linear:
        return _Linear(self.a + other.a, self.b + other.b)

    def __mul__(self, other: _Linear) -> _Linear:
        assert not (self.b and other.b), "both depend on the classes"
        return _Linear(self.a * other.a, self.a * other.b + self.b * other.a)


@dataclass
class _Sides:
    """The side lengths of the maps: side 0 is the image's, each other follows from an earlier one.

    A rule is (source, ((c, s), ...)): the smallest (n - c) // s + 1; or (-1, size), a constant.
    """

    rules: list[tuple[int, Any]] = field(default_factory=list)

    def side(self, source: int, how: Any) -> int:
        if how == ((1, 1),):  # a padded layer of stride 1
            return source
        rule = (source, how)
        if rule not in self.rules:
            self.rules.append(rule)
        return self.rules.index(rule) + 1

    def constant(self, size: int) -> int:
        return self.side(-1, size)

    def sizes(self, n: int) -> list[int]:
        found = [n]
        for source, how in self.rules:
            found.append(how if source < 0 else min((found[source] - c) // s + 1 for c, s in how))
        return found


@dataclass(frozen=True, slots=True)
class _Map:
    """A node's output per image: `lead` (the channels) x height x width, the latter two as indices into _Sides."""

    lead: _Linear
    height: int
    width: int


class Symbolic:
    """`symbolic(height, width, batch=1, classes=None)`: what the network costs on images of this size.

    `traces` are two passes of one image each, of different sizes, by networks built for that size with that many
    `classes`; where the two numbers are equal, the number of classes is fixed. The image's channels stay as traced.
    Raises UserError for a network whose map sizes follow no rule known here.
    """

    def __init__(self, name: str, traces: Sequence[Trace], images: Sequence[tuple[int, ...]], classes: Sequence[int]):
        self.name, self.images, self.classes = name, images, classes
        self.heights, self.widths = _Sides(), _Sides()
        self.equal: set[tuple[int, int, int, int]] = set()  # heights and widths of maps that are merged
        self.macs: dict[tuple[int, int], _Linear] = {}  # (height, width): the MACs on such maps
        self.params: dict[tuple[int, int], _Linear] = {}
        self.stored: dict[tuple[int, int], _Linear] = {}
        self.pointwise: dict[tuple[int, int], _Linear] = {}
        self.passes = [_Pass(t) for t in traces]
        if len({tuple(p.ops) for p in self.passes}) > 1:
            raise self._unknown("runs different operators at different image sizes")
        self.made: list[_Map | None] = []
        for at in range(len(self.passes[0].nodes)):
            made = self._follow(at)
            self.made.append(made)
            if made is not None and self._counted(made) != [prod(p.nodes[at].shape[1:]) for p in self.passes]:
                raise self._unknown(f"has an operator {self.passes[0].ops[at]} whose output size follows no known rule")
        self._add_activations()
        self._add_parameters()

    def __call__(self, height: int, width: int | None = None, batch: int = 1, classes: int | None = None) -> Counts:
        width, classes = height if width is None else width, self.classes[0] if classes is None else classes
        for name, n in (("height", height), ("width", width), ("batch", batch), ("classes", classes)):
            if isinstance(n, bool) or not isinstance(n, int) or n < 1:
                raise UserError(f"{name}={n!r} is not a positive integer", "give a whole number of at least 1")
        if self.classes[0] == self.classes[1] != classes:
            raise UserError(f"{self.name} is already built with {self.classes[0]} classes", "leave classes out")
        hs, ws = self.heights.sizes(height), self.widths.sizes(width)
        if min(hs) < 1 or min(ws) < 1:
            raise UserError(
                f"{self.name} cannot take a {height}x{width} image: a kernel does not fit", "give a larger one"
            )
        for h, w, other_h, other_w in self.equal:
            if hs[h] != hs[other_h] or ws[w] != ws[other_w]:
                raise UserError(
                    f"{self.name} cannot take a {height}x{width} image: it merges maps of {hs[h]}x{ws[w]} and "
                    f"{hs[other_h]}x{ws[other_w]}",
                    "give another size",
                )

        def total(terms: dict[tuple[int, int], _Linear]) -> int:
            return sum(hs[h] * ws[w] * each(classes) for (h, w), each in terms.items())

        return Counts(
            params=total(self.params),
            macs=batch * total(self.macs),
            activations=batch * total(self.stored),
            pointwise_activations=batch * total(self.pointwise),
        )

    def _follow(self, at: int) -> _Map | None:
        """The map that a node outputs; None where nothing it reads comes from the image. Counts its MACs."""
        nodes = [p.nodes[at] for p in self.passes]
        inputs = [self._input() if i < 0 else self.made[i] for i in self.passes[0].reads[at]]
        maps = [m for m in inputs if m is not None]
        if not maps:
            return None
        node, x = nodes[0], max(maps, key=lambda m: self._sampled(m)[0])
        if node.op == "convolution" and not node.args[6]:
            kernels = [prod(n.args[1]) for n in nodes]
            out = self._window(at, maps[0], nodes)
            _add(self.macs, out, self._linear(kernels))
            return out
        if node.op in ("addmm", "mm") and node.parameters:
            one = (self.heights.constant(1), self.widths.constant(1))
            out = _Map(self._linear([n.shape[1] for n in nodes]), *one)
            _add(self.macs, x, x.lead * out.lead)
            return out
        if any(n.macs for n in nodes):
            raise self._unknown(f"has an operator {node.op}, which has no rule here")
        if node.op in POOLS:
            return self._window(at, maps[0], nodes)
        if node.op in ("mean", "sum", *ADAPTIVE) and len(node.args[0]) == 4:
            h, w = node.shape[2:] if len(node.shape) == 4 else (1, 1)
            return self._like(nodes, self.heights.constant(h), self.widths.constant(w))
        if node.op == "constant_pad_nd" and len(node.args[0]) == 4:
            left, right, top, bottom = [*node.args[1], 0, 0, 0][:4]
            h = self.heights.side(x.height, ((1 - top - bottom, 1),))
            return self._like(nodes, h, self.widths.side(x.width, ((1 - left - right, 1),)))
        if node.op == "slice" and len(node.args[0]) == 4 and node.args[1] % 4 >= 2:
            _, dim, start, end, step = [*node.args, 1][:5]
            if (start or 0) < 0 or (end is not None and end < node.args[0][dim]):
                raise self._unknown("takes a slice of fixed length")
            how = ((1 + (start or 0), step),)
            h = self.heights.side(x.height, how) if dim % 4 == 2 else x.height
            return self._like(nodes, h, self.widths.side(x.width, how) if dim % 4 == 3 else x.width)
        for m in maps:  # merged maps are of one size, or single values that scale each map
            if (m.height, m.width) != (x.height, x.width) and set(self._sampled(m)) != {1}:
                self.equal.add((x.height, x.width, m.height, m.width))
        return self._like(nodes, x.height, x.width)

    def _window(self, at: int, x: _Map, nodes: Sequence[Node]) -> _Map:
        """The map that a convolution or pool outputs.

        Padding that the module does not declare may have been chosen for the image, to give ceil(n / stride) outputs
        ("SAME"): that is assumed wherever it fits both axes of both passes.
        """
        windows = [_window(n, p.pads[at]) for n, p in zip(nodes, self.passes, strict=True)]
        declared = self.passes[0].trace.calls[nodes[0].call].geometry.get("padding") == tuple(windows[0][0])
        fixed = declared and not any(any(p.pads[at]) for p in self.passes)
        same = [((1, s),) for s in windows[0][2]]
        rules = [windows[0][1]] if fixed else [same, windows[0][1]]
        for tall, wide in rules:
            h, w = self.heights.side(x.height, tall), self.widths.side(x.width, wide)
            if self._sizes(h, w) == [tuple(n.shape[2:]) for n in nodes]:
                return self._like(nodes, h, w)
        raise self._unknown(f"has an operator {nodes[0].op} whose output size follows no known rule")

    def _input(self) -> _Map:
        return _Map(_Linear(self.images[0][0]), 0, 0)

    def _like(self, nodes: Sequence[Node], h: int, w: int) -> _Map:
        """A map of that size with as many values as the nodes have."""
        leads = [prod(n.shape[1:]) / (tall * wide) for n, (tall, wide) in zip(nodes, self._sizes(h, w), strict=True)]
        if any(lead % 1 for lead in leads):
            raise self._unknown(f"has an operator {nodes[0].op} whose output size follows no known rule")
        return _Map(self._linear(list(map(int, leads))), h, w)

    def _linear(self, values: Sequence[int]) -> _Linear:
        """The linear function of the classes through these values of the two passes."""
        (one, two), (few, many) = values, self.classes
        if few == many:
            if one != two:
                raise self._unknown("changes its channels with the image size")
            return _Linear(one)
        slope, rest = divmod(two - one, many - few)
        if rest:
            raise self._unknown("grows with the classes by a fractional number")
        return _Linear(one - slope * few, slope)

    def _sizes(self, h: int, w: int) -> list[tuple[int, int]]:
        return [(self.heights.sizes(tall)[h], self.widths.sizes(wide)[w]) for _, tall, wide in self.images]

    def _sampled(self, made: _Map) -> list[int]:
        return [h * w for h, w in self._sizes(made.height, made.width)]

    def _counted(self, made: _Map) -> list[int]:
        return [size * made.lead(c) for size, c in zip(self._sampled(made), self.classes, strict=True)]

    def _add_activations(self) -> None:
        """The rows' values, as in `count.rows_of`: of leaf calls, and of operators outside leaves."""
        first = self.passes[0]
        _add(self.stored, self._input(), self._input().lead)
        within: dict[int, list[int]] = {}
        for at, node in enumerate(first.nodes):
            if first.trace.calls[node.call].leaf:
                within.setdefault(node.call, []).append(at)
            elif not without_values(node.op):
                self._store(at, in_place(node.op))
        for call, ats in within.items():
            computed = [at for at in ats if not without_values(first.ops[at])]
            if computed and not first.trace.calls[call].container:
                shape = first.trace.outputs.get(call, first.nodes[ats[-1]].shape)
                at = next(at for at in reversed(ats) if first.nodes[at].shape == shape)
                self._store(at, all(in_place(first.ops[at]) for at in computed))

    def _store(self, at: int, pointwise: bool) -> None:
        made = self.made[at]
        if made is not None:
            _add(self.pointwise if pointwise else self.stored, made, made.lead)

    def _add_parameters(self) -> None:
        """Each parameter that is read, once; a linear layer after a map has as many inputs as the map has values."""
        read: set[str] = set()
        for at, node in enumerate(self.passes[0].nodes):
            for name in node.parameters:
                if name in read:
                    continue
                read.add(name)
                values = [p.trace.parameters[name] for p in self.passes]
                x = self.made[self.passes[0].reads[at][0]] if self.passes[0].reads[at] else None
                made = self.made[at]
                weight = node.op in ("addmm", "mm") and values[0] == prod(node.args[-1])
                if weight and x is not None and made is not None:
                    _add(self.params, x, x.lead * made.lead)
                else:
                    one = _Map(_Linear(1), self.heights.constant(1), self.widths.constant(1))
                    _add(self.params, one, self._linear(values))

    def _unknown(self, what: str) -> UserError:
        return UserError(f"{self.name} {what}", "use account(), which counts one size at a time")


class _Pass:
    """A trace in which a pad and the window that it pads for, when in one module, are a single node."""

    def __init__(self, traced: Trace):
        self.trace = traced
        nodes = traced.nodes
        fused = {}  # pad: the node that it pads
        for index, node in enumerate(nodes):
            if node.op == "convolution" or node.op in POOLS:
                source = node.inputs[0]
                if source >= 0 and nodes[source].op == "constant_pad_nd" and nodes[source].call == node.call:
                    fused[source] = index
        kept = [i for i in range(len(nodes)) if i not in fused]
        position = {index: at for at, index in enumerate(kept)} | {-1: -1}
        padded = {window: pad for pad, window in fused.items()}
        self.nodes = [nodes[i] for i in kept]
        self.ops = [n.op.rstrip("_") for n in self.nodes]
        self.pads = [([*nodes[padded[i]].args[1], 0, 0][:4] if i in padded else [0] * 4) for i in kept]
        self.reads = [[position[nodes[j].inputs[0] if j in fused else j] for j in nodes[i].inputs] for i in kept]


def _window(node: Node, pads: Sequence[int]) -> tuple[list[int], list[Any], list[int]]:
    """The padding of a convolution or pool, the size rule of each axis, and its strides."""
    ceil = False
    if node.op == "convolution":
        kernel, stride, padding, dilation = node.args[1][2:], node.args[3], node.args[4], node.args[5]
    elif node.op == "avg_pool2d":
        kernel, stride, padding, ceil = list(node.args[1:5]) + [[], 0, False][len(node.args) - 2 :]
        dilation = [1, 1]
    else:
        kernel, stride, padding, dilation, ceil = list(node.args[1:6]) + [[], 0, 1, False][len(node.args) - 2 :]
    kernel, padding, dilation = _two(kernel), _two(padding), _two(dilation)
    stride = _two(stride) if stride else kernel
    left, right, top, bottom = pads
    rules: list[Any] = []
    for k, s, p, d, more in zip(kernel, stride, padding, dilation, (top + bottom, left + right), strict=True):
        c = d * (k - 1) + 1 - 2 * p - more
        if not ceil:
            rules.append(((c, s),))
        elif p + s - 1 < k:
            rules.append(((c - s + 1, s),))
        else:  # a last window that would start in the padding is left out
            rules.append(((c - s + 1, s), (1 - p, s)))
    return padding, rules, stride


def _two(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value) * (2 // len(value))


def _add(terms: dict[tuple[int, int], _Linear], at: _Map, values: _Linear) -> None:
    key = (at.height, at.width)
    terms[key] = terms.get(key, _Linear(0)) + values


def symbolic(network: nn.Module | Variant | str, input: Shape | None = None, **options: Any) -> Symbolic:
    """The costs of a network as a function of the image size; `network`, `input` and `options` as for `account`.

    For a catalogue network the number of classes is a variable too; for a module it is fixed. Raises UserError as
    `account` does, and for a network whose map sizes follow no rule known here.
    """
    if isinstance(network, str) and not is_file(network):
        if input is None and not options:
            return _of_name(find(network).name)
        network = find(network)
    if isinstance(network, Variant):
        return of_variant(network, input, **options)
    net, name, (channels, *sides), _ = resolve(network, input, **options)
    images = [(channels, sides[0] + tall, sides[1] + wide) for tall, wide in GROWN]
    traces = [trace(net, *meta_inputs(net, image, 1)) for image in images]
    classes = prod(traces[0].outputs[0][1:])
    return Symbolic(name, traces, images, (classes, classes))


@cache
def _of_name(name: str) -> Symbolic:
    """Traced once per process."""
    return of_variant(find(name))


def of_variant(variant: Variant, input: Shape | None = None, **options: Any) -> Symbolic:
    input = input or variant.input
    assert input is not None
    channels, *sides = input
    few = options.pop("classes", None) or variant.options["classes"]
    if "aux" in variant.options:
        options["aux"] = False  # their size depends on the image, and they are not part of the pass
    images, classes, traces = [], [], []
    for (tall, wide), n in zip(GROWN, (few, few + 1), strict=True):
        image = (channels, sides[0] + tall, sides[1] + wide)
        sized = {"input": image} if "input" in variant.options else {"channels": channels}  # the trace tries the image
        with on_meta():
            net = variant.build(classes=n, **sized, **options)
        images.append(image)
        classes.append(n)
        traces.append(trace(net, *meta_inputs(net, image, 1)))
    return Symbolic(variant.name, traces, images, classes)


@dataclass(frozen=True)
class LargestInput:
    """The largest square image within a limit, and the next larger one that the network takes."""

    side: int
    macs: int
    next_side: int
    next_macs: int


def largest_input(
    network: nn.Module | Variant | str,
    macs: int,
    batch: int = 1,
    classes: int | None = None,
    input: Shape | None = None,
    **options: Any,
) -> LargestInput:
    """The largest square image on which a network costs at most `macs` multiply-adds; arguments as for `symbolic`.

    Raises UserError if even its smallest image costs more.
    """
    costs = symbolic(network, input, **options)

    def cost(side: int) -> int | None:
        try:
            return costs(side, batch=batch, classes=classes).macs
        except UserError:
            return None

    def taken(side: int) -> tuple[int, int]:
        """The smallest side, at least this one, that the network takes, and its cost."""
        return next((s, n) for s in range(side, side + 4096) if (n := cost(s)) is not None)

    costs(costs.images[0][1], batch=batch, classes=classes)  # rejects an invalid batch or number of classes
    low, least = taken(1)
    if least > macs:
        raise UserError(
            f"{costs.name} takes {least:,} multiply-adds even at {low}x{low}, its smallest image",
            f"raise the limit of {macs:,} to at least that",
        )
    high = 2 * low
    while taken(high)[1] <= macs:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle)[1] <= macs else (low, middle)
    return LargestInput(*taken(low), *taken(high))
