"""Which rows of the atlas a weights file fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from .. import tables
from ..catalogue import Variant, find
from ..errors import UserError
from ..layers import ConvNet, on_meta
from .match import AUXILIARY, Fit, fit
from .order import Misfit
from .slots import Layer, layers_of
from .types import Weights


@dataclass(frozen=True)
class Row:
    """A row of the atlas that a file fits, with the options that its shapes give, and how its tensors go in."""

    variant: Variant
    options: Mapping[str, Any]
    fit: Fit

    def build(self) -> ConvNet:
        """The network with the file's weights."""
        net = self.variant.build(**self.options)
        self.fit.load(net)
        return net


def rows_of(weights: Weights, source: str, names: Iterable[str] | None = None) -> list[Row]:
    """The rows that the file fits, of those named, or of the whole atlas. Several rows of one shape are all given.

    Raises Misfit, with the reason of the likeliest row, if there is none.
    """
    tried = list(names) if names is not None else candidates(weights)
    found, reasons = [], []
    for name in tried:
        try:
            found.append(row_of(weights, find(name), source))
        except UserError as misfit:
            reasons.append(misfit)
    if not found:
        if reasons:
            raise reasons[0]
        raise Misfit(
            f"{source} fits no network of the atlas: none has its {len(weighted(weights))} layers with weights",
            "say with --network which it should fit, to see what differs",
        )
    return found


def row_of(weights: Weights, variant: Variant, source: str) -> Row:
    """The file's weights in that row, built for the classes and channels that the file has. Raises Misfit."""
    options = options_of(weights, variant)
    with on_meta():
        net = variant.build(**options)
    return Row(variant, options, fit(weights, net, source))


def options_of(weights: Weights, variant: Variant) -> dict[str, Any]:
    """Classes, channels and auxiliary heads as the file has them, in whatever order it has its layers."""
    options: dict[str, Any] = {}
    usual = int(variant.options["classes"])
    *others, last = sizes(variant.name)
    classes = classes_of(weights, usual, last // usual, others)
    if classes != usual:
        options["classes"] = classes
    assert variant.input is not None
    channels = channels_of(weights, variant.name)
    if channels and variant.input[0] not in channels:
        options["channels"] = channels.pop()
    if "aux" in variant.options and not any(AUXILIARY.search(name) for name in weights.tensors):
        options["aux"] = False
    return options


def classes_of(weights: Weights, usual: int, reads: int, others: Iterable[int]) -> int:
    """The outputs of the file's classifier: `usual` if it has as many.

    It is a layer that reads so many values, and none of the `others`, of which the number of weights is given.
    """
    left, outputs = Counter(others), []
    for layer in weighted(weights):
        weight = layer.tensors["weight"]
        if left[weight.numel()]:
            left[weight.numel()] -= 1
        elif weight[0].numel() == reads:
            outputs.append(len(weight))
    return usual if usual in outputs or not outputs else outputs[-1]


def channels_of(weights: Weights, name: str) -> set[int]:
    """How many channels, 1 or 3, the layers of the file read that may be the row's first."""
    read = [layer.tensors["weight"] for layer in weighted(weights)]
    first = next(row for row in tables.load(name).rows if row.weights)
    return {int(w.shape[1]) for w in read for c in (1, 3) if w.shape == (first.shape[0], c, *first.kernel)}


def candidates(weights: Weights) -> list[str]:
    """The rows whose weighted layers have the sizes of the file's, but for the first and the last one."""
    theirs = Counter(layer.tensors["weight"].numel() for layer in weighted(weights))
    return [name for name in tables.index() if close(theirs, sizes(name))]


def close(theirs: Counter[int], ours: tuple[int, ...]) -> bool:
    return len(ours) == theirs.total() and not Counter(ours[1:-1]) - theirs


@cache
def sizes(name: str) -> tuple[int, ...]:
    """The weights of each convolution and linear layer of a row, in running order."""
    return tuple(row.weights for row in tables.load(name).rows if row.weights and not row.op.startswith("BatchNorm"))


def weighted(weights: Weights) -> list[Layer]:
    """The convolutions and linear layers of a file, without those of auxiliary heads."""
    return [
        layer
        for layer in layers_of(weights.tensors)
        if "weight" in layer.tensors and layer.tensors["weight"].dim() > 1 and not AUXILIARY.search(layer.name)
    ]
