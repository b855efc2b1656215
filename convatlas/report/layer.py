"""Output size and cost of a layer or a stack of layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..arithmetic import FC, Conv, Cost, Pool, Stack, Transposed
from .columns import sides
from .tables import Report, Table, label, number, prose, size

Layer = Conv | Pool | Transposed | FC
VALUE_BYTES = 4  # float32


def report(kind: str, layer: Layer, input: tuple[int, ...], cost: Cost) -> Report:
    """Each quantity of a layer on an input, and its formula."""
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
    """Quantity, value and formula."""
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


def stack_report(stack: Stack, against: Stack | None = None) -> Report:
    """The layers of a stack and its totals; with a second stack, both totals and their ratio."""
    both = [stack] if against is None else [stack, against]
    columns = (
        label("layer"),
        label("output"),
        label("receptive field", "receptive_field"),
        number("parameters", "params"),
        number("weights"),
        number("multiply-adds", "macs"),
    )
    tables = [Table("layers", columns, list(layer_rows(s))) for s in both]
    numbered = [(n, *row) for n, table in enumerate(tables, start=1) for row in table.rows]
    totals = Table("totals", _total_columns(len(both)), list(total_rows(both)))
    after: tuple[str | Table, ...] = (totals,)
    if against is not None:
        after = (f"against, on {size(against.input)}:", tables[1], "totals:", totals)
    record = {"stack": stack_record(stack)}
    if against is not None:
        record["against"] = stack_record(against)
    return Report(
        tables[0],
        before=(
            f"{len(stack.layers)} layers on {size(stack.input)}"
            if len(stack.layers) > 1
            else f"1 layer on {size(stack.input)}",
        ),
        after=after,
        record=record,
        data=Table("layers", (number("stack", short=None), *columns), numbered),
    )


def _total_columns(stacks: int) -> tuple[Any, ...]:
    if stacks == 1:
        return label("quantity"), number("total", short=None)
    return (
        label("quantity"),
        number("stack", short=None),
        number("against", short=None),
        number("stack/against", "ratio"),
    )


def layer_rows(stack: Stack) -> Iterator[tuple[Any, ...]]:
    for layer, cost, field in zip(stack.layers, stack.costs, stack.receptive_fields, strict=True):
        kind = type(layer).__name__.lower()
        yield describe(kind, layer), cost.shape, field or None, cost.params, cost.weights, cost.macs


def total_rows(stacks: list[Stack]) -> Iterator[tuple[Any, ...]]:
    """A quantity of each stack; for two stacks, also their ratio."""
    yield _total("output", [s.output for s in stacks])
    yield _total("receptive field", [s.receptive_fields[-1] or None for s in stacks])
    for name, values in (
        ("parameters", [s.params for s in stacks]),
        ("weights", [s.weights for s in stacks]),
        ("multiply-adds", [s.macs for s in stacks]),
        ("values", [s.values for s in stacks]),
    ):
        yield _total(name, values)


def _total(name: str, values: list[Any]) -> tuple[Any, ...]:
    if len(values) == 1:
        return name, *values
    ratio = f"{values[0] / values[1]:.3f}" if isinstance(values[1], int) and values[1] else None
    return name, *values, ratio


def stack_record(stack: Stack) -> dict[str, Any]:
    names = ("layer", "output", "receptive_field", "params", "weights", "macs")
    return {
        "input": stack.input,
        "layers": [dict(zip(names, row, strict=True)) for row in layer_rows(stack)],
        "output": stack.output,
        "receptive_field": stack.receptive_fields[-1] or None,
        "params": stack.params,
        "weights": stack.weights,
        "macs": stack.macs,
        "values": stack.values,
    }
