"""Stacks of layers, as in the lectures' comparison of three 3x3 with one 7x7, and a text form of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UserError, unknown
from ..limits import whole_number
from .layers import FC, Conv, Cost, Layer, Pool, Shape, Transposed, stacked
from .sides import Window, receptive_field

FORMS = {
    "conv": "conv FILTERS KERNEL [stride S] [pad P|same] [dilation D] [groups G] [nobias]",
    "pool": "pool KERNEL [stride S] [pad P|same] [dilation D] [ceil]",
    "fc": "fc UNITS [nobias]",
}
VALUES = {"conv": ("stride", "pad", "dilation", "groups"), "pool": ("stride", "pad", "dilation"), "fc": ()}
FLAGS = {"conv": ("nobias",), "pool": ("ceil",), "fc": ("nobias",)}


@dataclass(frozen=True)
class Stack:
    """A stack of layers on an input C x H x W: the cost of each, and its receptive field."""

    input: Shape
    layers: tuple[Layer, ...]
    costs: tuple[Cost, ...]
    receptive_fields: tuple[tuple[int, ...], ...]  # height and width in pixels; empty unless the input is an image

    @property
    def output(self) -> Shape:
        return self.costs[-1].shape

    @property
    def params(self) -> int:
        return sum(c.params for c in self.costs)

    @property
    def weights(self) -> int:
        return sum(c.weights for c in self.costs)

    @property
    def macs(self) -> int:
        return sum(c.macs for c in self.costs)

    @property
    def values(self) -> int:
        return sum(c.values for c in self.costs)


def stack(shape: Shape, layers: Sequence[Layer]) -> Stack:
    """The layers, each on the output of the one before, on C x H x W. A fully connected layer sees the whole input.

    Raises UserError for an empty stack, for a layer that does not fit, and for a transposed convolution, as its
    receptive field differs from position to position.
    """
    if not layers:
        raise UserError("the stack has no layers", f"name at least one: {FORMS['conv']}")
    if any(isinstance(layer, Transposed) for layer in layers):
        raise UserError("a transposed convolution cannot be part of a stack", "compute it separately")
    costs = stacked(shape, *layers)
    fields: list[tuple[int, ...]] = []
    windows: list[tuple[Window, Window]] = []
    for layer in layers:
        if isinstance(layer, Conv | Pool) and (not fields or len(windows) == len(fields)):
            windows.append(layer.windows)
            fields.append(tuple(receptive_field(side, n).size for side, n in zip(zip(*windows), shape[1:])))
        else:
            fields.append(shape[1:])
    return Stack(shape, tuple(layers), tuple(costs), tuple(fields))


def parse_layer(text: str) -> Conv | Pool | FC:
    """ "conv 64 3x3 stride 2 pad 1" -> Conv(64, (3, 3), (2, 2), (1, 1)); the words are those of FORMS.

    Raises UserError for unknown words, with near ones, and for words that are missing or not numbers.
    """
    kind, *words = text.lower().replace("×", "x").split() or [""]
    if kind not in FORMS:
        raise unknown("layer", kind, FORMS)
    required = 2 if kind == "conv" else 1
    if len(words) < required:
        raise UserError(f"{text!r} is incomplete", f"write {FORMS[kind]}")
    numbers = [_sides(word, text, kind) for word in words[:required]]
    values: dict[str, tuple[int, int] | str] = {}
    flags: set[str] = set()
    rest = iter(words[required:])
    for word in rest:
        if word in values or word in flags:
            raise UserError(f"{text!r} has {word} twice", "give it once")
        if word in FLAGS[kind]:
            flags.add(word)
        elif word in VALUES[kind]:
            value = next(rest, "")
            values[word] = value if word == "pad" and value == "same" else _sides(value, text, kind)
        else:
            raise unknown(f"word of a {kind} layer", word, (*VALUES[kind], *FLAGS[kind]))
    padding, dilation = values.get("pad", 0), _given(values.get("dilation", (1, 1)))
    stride = values.get("stride")
    if kind == "fc":
        return FC(_one(numbers[0], text, kind), "nobias" not in flags)
    if kind == "pool":
        return Pool(numbers[0], None if stride is None else _given(stride), padding, dilation, "ceil" in flags)
    groups = _one(_given(values.get("groups", (1, 1))), text, kind)
    filters = _one(numbers[0], text, kind)
    return Conv(filters, numbers[1], _given(stride or (1, 1)), padding, dilation, groups, "nobias" not in flags)


def _sides(word: str, text: str, kind: str) -> tuple[int, int]:
    """ "3" or "1x7" as height and width."""
    parts = word.split("x")
    height, width = whole_number(parts[0]), whole_number(parts[-1])
    if len(parts) > 2 or height is None or width is None:
        raise UserError(f"{word!r} in {text!r} is not a number or height x width", f"write {FORMS[kind]}")
    return height, width


def _given(value: tuple[int, int] | str) -> tuple[int, int]:
    assert not isinstance(value, str)
    return value


def _one(sides: tuple[int, int], text: str, kind: str) -> int:
    if sides[0] != sides[1]:
        raise UserError(f"'{sides[0]}x{sides[1]}' in {text!r} is not one number", f"write {FORMS[kind]}")
    return sides[0]
