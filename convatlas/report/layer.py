"""What one layer makes of an image and what it costs, with the numbers put into the formulas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..arithmetic import FC, Conv, Cost, Pool, Transposed
from .columns import sides
from .tables import Report, Table, label, number, prose, size

Layer = Conv | Pool | Transposed | FC
VALUE_BYTES = 4  # float32


def report(kind: str, layer: Layer, input: tuple[int, ...], cost: Cost) -> Report:
    """Each quantity of a layer on an input, and the formula that gives it."""
    columns = (label("quantity"), number("value", short=None), prose("formula"))
    return Report(
        Table("quantities", columns, list(rows(cost))),
        before=(f"{describe(kind, layer)} on {size(input)}",),
        record=record(kind, input, cost),
    )


def describe(kind: str, layer: Layer) -> str:
    """ "conv 11x11/4, 96 filters"."""
    if isinstance(layer, FC):
        return f"fc, {layer.units} units" + ("" if layer.bias else ", no bias")
    stride = layer.kernel if layer.stride is None else layer.stride
    words = [f"{kind} {size(pair(layer.kernel))}/{sides(pair(stride))}"]
    for name, usual in (("padding", "0"), ("output_padding", "0"), ("dilation", "1"), ("groups", "1")):
        value = getattr(layer, name, usual)
        shown = value if isinstance(value, str) else sides(pair(value))
        if shown != usual:
            words.append(f"{name.replace('_', ' ')} {shown}")
    if isinstance(layer, Pool):
        words += ["rounded up"] if layer.ceil else []
    else:
        words += [f"{layer.filters} filters"] + ([] if layer.bias else ["no bias"])
    return ", ".join(words)


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def rows(cost: Cost) -> Iterator[tuple[Any, ...]]:
    """The quantity, its value, and how it comes about."""
    f = cost.formulas
    both = f"height {f.get('height')}, width {f.get('width')}"
    yield "output", cost.shape, both if f.get("width") != f.get("height") else f.get("height")
    if any(cost.unused):
        yield "unused", cost.unused, "rows x columns of the input that no window reads"
    yield "parameters", cost.params, f.get("params")
    if cost.biases:
        yield "weights", cost.weights, f["weights"]
    yield "multiply-adds", cost.macs, f.get("macs")
    yield "values", cost.values, "*".join(map(str, cost.shape))
    yield "bytes", VALUE_BYTES * cost.values, "in float32"


def record(kind: str, input: tuple[int, ...], cost: Cost) -> dict[str, Any]:
    return {
        "layer": kind,
        "input": input,
        "output": cost.shape,
        "params": cost.params,
        "weights": cost.weights,
        "biases": cost.biases,
        "macs": cost.macs,
        "values": cost.values,
        "bytes": VALUE_BYTES * cost.values,
        "unused": cost.unused,
        "formulas": cost.formulas,
    }
