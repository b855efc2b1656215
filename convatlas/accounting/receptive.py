"""Receptive fields: which pixels of the image each position of a map is computed from.

Along each axis a position's field is a set of pixels, kept as the bits of an integer. Windows shift such sets and take
their union, as do merging branches, so holes (strides longer than kernels) and unequal branches come out exact. Behind
a transposed convolution neighbours see unlike sets, in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import reduce
from math import lcm
from operator import or_
from typing import Any, NamedTuple

from .depth import gates
from .operators import kind
from .trace import Node, Trace

MOST_TURNS = 256  # unlike fields of neighbours; where there would be more, they are bounded by the whole map's


class Axis(NamedTuple):
    """One axis of a field. Bit i of `mask`: the first position sees pixel `start` + i; the next, `jump` pixels on.

    Behind a transposed convolution positions see unlike sets in turn: those of the second, the third ... up to the end
    of a turn are in `others`, from the same `start`; the next turn is `jump` pixels on.
    """

    mask: int = 1
    jump: int = 1  # pixels from one position's field (or turn) to the next one's; 0: one field, of the whole map
    start: int = 0  # the first position's leftmost pixel; negative in the padding
    end: int = 1  # no position sees pixels from here on: windows that did not fit were dropped
    others: tuple[int, ...] = ()

    @property
    def masks(self) -> tuple[int, ...]:
        return (self.mask, *self.others)

    @property
    def first(self) -> int:
        """The first position's leftmost pixel."""
        return self.start + _zeros(self.mask) if self.others else self.start

    @property
    def step(self) -> Fraction | int:
        """Pixels from one position's field to the next one's, on average."""
        return Fraction(self.jump, 1 + len(self.others)) if self.others else self.jump

    @property
    def size(self) -> int:
        """Of the largest field."""
        if not self.others:
            return self.mask.bit_length()
        return max(m.bit_length() - _zeros(m) for m in self.masks)

    @property
    def exact(self) -> bool:
        """Every pixel from the first to the last is seen, and as many by each position."""
        if not self.others:
            return self.mask & (self.mask + 1) == 0
        return all(m >> _zeros(m) == (1 << self.size) - 1 for m in self.masks)

    def window(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Axis:
        if self.others:
            return self._each(lambda o: [o * stride - padding + t * dilation for t in range(kernel)], stride)
        mask, taps = self.mask, 1
        while taps < kernel:  # the taps so far, and as many again
            more = min(taps, kernel - taps)
            mask, taps = mask | mask << more * dilation * self.jump, taps + more
        return Axis(mask, self.jump * stride, self.start - padding * self.jump, self.end)

    def transposed(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Axis:
        """Each position sees those that spread to it."""
        taps = [padding - t * dilation for t in range(kernel)]
        return self._each(lambda o: [(o + t) // stride for t in taps if (o + t) % stride == 0], Fraction(1, stride))

    def _each(self, reads: Callable[[int], list[int]], stride: Fraction | int) -> Axis:
        """`reads`: the positions of this map that each position of the next one reads, `stride` of these further on."""
        masks, turn = self.masks, 1 + len(self.others)
        length = Fraction(turn, stride).numerator  # positions of the next map until all repeats
        read = [[(i % turn, i // turn) for i in reads(o)] for o in range(length)]
        back = min((turns for each in read for _, turns in each), default=0)
        made = [sum_of(masks[at] << (turns - back) * self.jump for at, turns in each) for each in read]
        jump = int(length * stride / turn) * self.jump
        return Axis(made[0], jump, self.start + back * self.jump, self.end, tuple(made[1:])).shortest()

    def shortest(self) -> Axis:
        """In the fewest masks."""
        masks = self.masks
        for length in range(1, len(masks)):
            shift, rest = divmod(self.jump * length, len(masks))
            if len(masks) % length == rest == 0 and all(
                masks[i] << shift == masks[i + length] for i in range(len(masks) - length)
            ):
                masks, jump = masks[:length], shift
                break
        else:
            jump = self.jump
        zeros = min((_zeros(m) for m in masks if m), default=0)
        first, *others = [m >> zeros for m in masks]
        return Axis(first, jump, self.start + zeros, self.end, tuple(others))

    def part_of_map(self, first: int, step: int) -> Axis | None:
        """The field of a map whose every `step`-th position, from `first`, is a position of this one."""
        jump, rest = divmod(self.jump, step)
        if rest or self.others:
            return None
        return self._replace(jump=jump, start=self.start - first * jump)

    def upto(self, positions: int) -> Axis:
        """The same field, limited to at most this many positions."""
        if self.others:
            ends = [self._end(i) for i in range(max(positions - len(self.others) - 1, 0), positions)]
            return self._replace(end=min(self.end, max(ends)))
        last = self.start + (positions - 1) * self.jump + self.size
        return self if last >= self.end else self._replace(end=last)

    def _end(self, position: int) -> int:
        turn, at = divmod(position, 1 + len(self.others))
        return self.start + turn * self.jump + self.masks[at].bit_length()

    def whole(self, positions: int) -> Axis:
        """What all positions together see."""
        if self.others:
            masks = self.masks
            union = sum_of(masks[i % len(masks)] << i // len(masks) * self.jump for i in range(positions))
            return Axis(union, 0, self.start, self.end).shortest()
        return self.window(positions)._replace(jump=0)

    def join(self, *others: Axis) -> Axis:
        axes = (self, *others)
        mask, start, end = 0, min([a.start for a in axes]), max([a.end for a in axes])
        if any(a.others for a in axes):
            length = lcm(*[len(a.masks) for a in axes])
            masks = [sum_of(same) for same in zip(*[a.turns(length, start) for a in axes], strict=True)]
            return Axis(masks[0], int(length * max(a.step for a in axes)), start, end, tuple(masks[1:])).shortest()
        for a in axes:
            mask |= a.mask << a.start - start
        return Axis(mask, max([a.jump for a in axes]), start, end)

    def turns(self, length: int, start: int) -> list[int]:
        """The masks of so many positions, from another start."""
        masks = self.masks
        return [masks[i % len(masks)] << i // len(masks) * self.jump + self.start - start for i in range(length)]


def _zeros(mask: int) -> int:
    """How many bits are 0 before the first that is not."""
    return (mask & -mask).bit_length() - 1 if mask else 0


def sum_of(masks: Iterable[int]) -> int:
    return reduce(or_, masks, 0)


class Field(NamedTuple):
    """The field of one position of a map. A gate (SE) sees the whole image; that is left out, and noted."""

    height: Axis
    width: Axis
    gated: bool = False  # values are scaled by an average over the whole map (SE, or normalisation)
    bounded: bool = False  # an upper bound, because of an operator without a rule, or pixels mirrored in the padding

    @property
    def exact(self) -> bool:
        """The field is a full rectangle: every pixel in it is seen."""
        return self.height.exact and self.width.exact and not self.gated and not self.bounded

    def window(self, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Field:
        tall, wide = zip(*map(_pair, (kernel, stride, padding, dilation)), strict=True)
        height = self.height.window(*tall)
        width = height if self.square and wide == tall else self.width.window(*wide)
        return Field(height, width, self.gated, self.bounded)

    def transposed(self, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Field:
        tall, wide = zip(*map(_pair, (kernel, stride, padding, dilation)), strict=True)
        height = self.height.transposed(*tall)
        width = height if self.square and wide == tall else self.width.transposed(*wide)
        return Field(height, width, self.gated, self.bounded)

    def part_of_map(self, place: tuple[tuple[int, int], tuple[int, int]]) -> Field | None:
        height, width = self.height.part_of_map(*place[0]), self.width.part_of_map(*place[1])
        if height is None or width is None:
            return None
        return self._replace(height=height, width=height if height == width and self.square else width)

    def upto(self, shape: Sequence[int]) -> Field:
        height = self.height.upto(shape[-2])
        width = height if self.square and shape[-1] == shape[-2] else self.width.upto(shape[-1])
        return Field(height, width, self.gated, self.bounded)

    def whole(self, shape: Sequence[int]) -> Field:
        h, w = shape[-2:] if len(shape) > 3 else (1, 1)
        return self._replace(height=self.height.whole(h), width=self.width.whole(w))

    def over(self, shape: Sequence[int], out: Sequence[int]) -> Field:
        """The same field, where a map of one row or column is used at each row or column of another."""
        if len(out) < 4 or out[-2:] == shape[-2:]:
            return self
        tall, wide = (len(shape) < 4 or shape[axis] == 1 for axis in (-2, -1))
        return self._replace(
            height=self.height._replace(jump=0, others=()) if tall and out[-2] > 1 else self.height,
            width=self.width._replace(jump=0, others=()) if wide and out[-1] > 1 else self.width,
        )

    def join(self, *others: Field) -> Field:
        """What they all see, where their jumps are equal."""
        fields = (self, *others)
        height = self.height.join(*[f.height for f in others])
        width = height if all(f.square for f in fields) else self.width.join(*[f.width for f in others])
        return Field(height, width, any(f.gated for f in fields), any(f.bounded for f in fields))

    @property
    def turns(self) -> int:
        return 1 + max(len(self.height.others), len(self.width.others))

    @property
    def square(self) -> bool:
        """Both axes are known to be alike, as is usual: one is then computed for both."""
        return self.height is self.width


def node_fields(trace: Trace) -> list[Field | None]:
    """The field of every node; None where no pixel is read, and everywhere when the inputs are not images."""
    image = of_image(trace)
    if image is None:
        return [None] * len(trace.nodes)
    scaled = gates(trace)
    fields: list[Field | None] = []
    for index, node in enumerate(trace.nodes):
        if len(node.inputs) == 1 and kind(node.op) == "pointwise" and node.op != "native_batch_norm":  # as most are
            fields.append(fields[node.inputs[0]] if node.inputs[0] >= 0 else image)
            continue
        reads = [i for i in node.inputs if (index, i) not in scaled]
        shapes = [trace.nodes[i].shape if i >= 0 else trace.inputs[0] for i in reads]
        seen = [fields[i] if i >= 0 else image for i in reads]
        known = [(f, s) for f, s in zip(seen, shapes, strict=True) if f is not None]
        if not known:
            fields.append(None)
            continue
        field = _rule(node, known)
        if len(node.shape) > 3 and not field.bounded:
            field = field.upto(node.shape)
        fields.append(field._replace(gated=True) if len(reads) < len(node.inputs) else field)
    return fields


def narrowest_fields(trace: Trace) -> list[Field | None]:
    """As `node_fields`, but where branches merge, the field of the branch that sees least (on the longer side)."""
    image = of_image(trace)
    if image is None:
        return [None] * len(trace.nodes)
    scaled = gates(trace)
    fields: list[Field | None] = []
    for index, node in enumerate(trace.nodes):
        seen = (
            (fields[i] if i >= 0 else image, trace.nodes[i].shape if i >= 0 else trace.inputs[0])
            for i in node.inputs
            if (index, i) not in scaled
        )
        alone = [_rule(node, [(f, s)]) for f, s in seen if f is not None]
        fields.append(min(alone, key=lambda f: max(f.height.size, f.width.size), default=None))
    return fields


def of_image(trace: Trace) -> Field | None:
    """Each pixel sees itself. None unless the inputs are images (N, C, H, W), all of one size."""
    sizes = {shape[2:] if len(shape) == 4 else None for shape in trace.inputs}
    size = sizes.pop() if len(sizes) == 1 else None
    if size is None:
        return None
    height = Axis(end=size[0])
    return Field(height, height if size[1] == size[0] else Axis(end=size[1]))


def _rule(node: Node, known: list[tuple[Field, tuple[int, ...]]]) -> Field:
    """The field of a node's output, given each input's field and shape."""
    field, shape = known[0]
    args = node.args
    match node.op:
        case "convolution" if not args[6] and len(shape) == 4:
            return field.window(args[1][2:], args[3], args[4], args[5])
        case "convolution" if len(shape) == 4 and field.turns * max(args[3]) <= MOST_TURNS:
            return field.transposed(args[1][2:], args[3], args[4], args[5])
        case "upsample_nearest2d" | "pixel_shuffle" if factor := _factor(field, shape, node.shape):
            return field.transposed(factor, factor, 0)
        case "upsample_bilinear2d" if (factor := _factor(field, shape, node.shape)) and args[2] is False:
            kernel = [2 * n - n % 2 for n in factor]
            return field.transposed(kernel, factor, [n // 2 for n in factor])
        case "reflection_pad2d" | "replication_pad2d":
            left, _, top, _ = args[1]
            return field.window(1, 1, (top, left))._replace(bounded=True)
        case "max_pool2d_with_indices":
            kernel, stride, padding, dilation = (*args[1:5], *([], 0, 1)[len(args) - 2 :])[:4]
            return field.window(kernel, stride or kernel, padding, dilation)
        case "avg_pool2d" | "avg_pool3d":  # the latter has the map in its last two axes
            kernel, stride, padding = (*args[1:4], *([], 0)[len(args) - 2 :])[:3]
            return field.window(kernel, stride or kernel, padding)
        case "_adaptive_avg_pool2d" | "adaptive_max_pool2d" if all(
            n % m == 0 for n, m in zip(shape[-2:], node.shape[-2:], strict=True)
        ):
            if max(node.shape[-2:]) == 1:
                return field.whole(shape)
            kernel = [n // m for n, m in zip(shape[-2:], node.shape[-2:], strict=True)]
            return field.window(kernel, kernel)
        case "constant_pad_nd":
            left, _, top, _ = (*args[1], 0, 0, 0)[:4]
            return field.window(1, 1, (top, left))
        case "slice":
            dim, first, _, step = list(args[1:]) + [0, None, None, 1][len(args) - 1 :]
            axis = dim % len(shape) - (len(shape) - 2)  # 0 is the height
            if len(shape) < 4 or axis < 0:
                return field
            pads, steps = [0, 0], [1, 1]
            first = first or 0
            pads[axis], steps[axis] = -max(first + shape[dim] if first < 0 else first, 0), step
            return field.window(1, steps, pads)
        case "read_view" if len(node.shape) > 3 and args[2]:
            (top, down), (left, across) = args[2]
            return field.window(1, (down, across), (-top, -left))
        case "write_view" if len(node.shape) > 3 and len(args[1]) > 3 and args[2]:
            parts = [f if s == args[0] else f.part_of_map(args[2]) for f, s in known]
            if None not in parts:
                return _joined([(f, node.shape) for f in parts if f], node.shape)
        case "mean" | "sum" | "amax" if len(shape) > 3:
            reduced = {dim % len(shape) - len(shape) for dim in (args[1] if len(args) > 1 else ())} or {-2, -1}
            if {-2, -1} <= reduced:
                return field.whole(shape)
            if not reduced & {-2, -1} and len(node.shape) > 3:
                return field
        case "native_group_norm" | "native_layer_norm" if len(shape) > 3:
            return field._replace(gated=True)  # by statistics of the whole map
        case "native_batch_norm" if len(shape) > 3 and args[5]:
            return field._replace(gated=True)
        case "cat" if len(shape) < 4 or _dim(args, shape) < -2:
            return _joined(known, node.shape)
        case "_softmax" | "_log_softmax" if len(shape) > 3 and _dim(args, shape) < -2:
            return field
        case "index" if len(node.shape) > 3 and not any(i is not None for i in args[1][len(shape) - 2 :]):
            return field  # selects channels
        case "view" | "_unsafe_view" | "reshape" if len(node.shape) < 3 and node.shape[:1] == shape[:1]:
            return field.whole(shape)  # flattened, for a linear layer
    if kind(node.op) == "pointwise":
        return _joined(known, node.shape)
    if kind(node.op) == "view" and len(node.shape) > 3 and len(shape) > 3 and _keeps_map(node, shape):
        return field
    if all(len(s) < 3 or max(s[2:]) == 1 for _, s in known):
        return _joined(known, node.shape)  # of one value for the whole image
    return Field.join(*[f.whole(s) for f, s in known])._replace(bounded=True)


def _joined(known: list[tuple[Field, tuple[int, ...]]], out: tuple[int, ...]) -> Field:
    """What a position sees in all of several maps: in the same place of each, or in each place of a broadcast one."""
    fields = [f.over(s, out) for f, s in known] if len(known) > 1 or known[0][1] != out else [known[0][0]]
    if len(fields) == 1 or (_alike([f.height for f in fields]) and _alike([f.width for f in fields])):
        return Field.join(*fields)
    sizes = [(*s[-2:],) if len(s) > 3 else (1, 1) for _, s in known]
    height, tall = _joined_axis([f.height for f in fields], [h for h, _ in sizes])
    width, wide = _joined_axis([f.width for f in fields], [w for _, w in sizes])
    gated, bounded = any(f.gated for f in fields), any(f.bounded for f in fields)
    return Field(height, width, gated, bounded or not (tall and wide))


def _alike(axes: list[Axis]) -> bool:
    """Their positions are as far from each other, and take turns of which not too many make one."""
    if not any(a.others for a in axes):
        return all(a.jump == axes[0].jump for a in axes)
    return len({a.step for a in axes}) == 1 and lcm(*(len(a.masks) for a in axes)) <= MOST_TURNS


def _joined_axis(axes: list[Axis], positions: list[int]) -> tuple[Axis, bool]:
    """Along one axis: with unequal jumps, no more is known than what all positions see together, which is exact where
    each position sees it in one of the maps, such as an average over the whole of the others."""
    if _alike(axes):
        return Axis.join(*axes), True
    wholes = [a.whole(n) for a, n in zip(axes, positions, strict=True)]
    union = Axis.join(*wholes)
    return union, any(not a.jump and a.whole(1) == union for a in axes)


def _factor(field: Field, shape: Sequence[int], out: Sequence[int]) -> list[int] | None:
    """How many times larger a map becomes, if that is a whole number along both axes."""
    sizes = list(zip(out[-2:], shape[-2:], strict=True))
    factor = [n // m for n, m in sizes]
    return factor if all(n % m == 0 for n, m in sizes) and field.turns * max(factor) <= MOST_TURNS else None


def _dim(args: tuple[Any, ...], shape: tuple[int, ...]) -> int:
    """The axis that an operator works along, as a negative index (-1 is the last)."""
    return (args[1] if len(args) > 1 else 0) % len(shape) - len(shape)


def _keeps_map(node: Node, shape: tuple[int, ...]) -> bool:
    """The last two axes are unchanged."""
    if node.op in ("permute", "transpose"):
        order = list(range(len(shape)))
        if node.op == "permute":
            order = [dim % len(shape) for dim in node.args[1]]
        else:
            one, two = node.args[1:3]
            order[one], order[two] = order[two], order[one]
        return order[-2:] == [len(shape) - 2, len(shape) - 1]
    return node.shape[-2:] == shape[-2:]


def _pair(value: Any) -> tuple[int, int]:
    """The numbers of the last two axes."""
    if isinstance(value, int):
        return value, value
    return value[-2 if len(value) > 1 else -1], value[-1]
