"""From a traced pass to rows; see `account` for the arguments and errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..catalogue import Variant
from ..errors import UserError
from .backward import backward_macs
from .depth import depth
from .inputs import batch_of, meta_inputs
from .onnx_graph import is_onnx, one_line, onnx_trace
from .operators import in_place, without_values
from .receptive import Field, node_fields, of_image
from .resolve import resolve
from .rows import Account, Row
from .stand_ins import uncollected
from .trace import Trace, trace


@uncollected()
def count(
    network: nn.Module | Variant | str, input: Any, batch: int | None, training: bool, strict: bool, **options: Any
) -> Account:
    if is_onnx(network):
        return _count_file(str(network), input, batch, training, strict, **options)
    net, name, input, variant = resolve(network, input, **options)
    batch = batch_of(input, batch, 1)
    args, kwargs = meta_inputs(net, input, batch)
    traced = trace(net, args, kwargs, training)
    shapes = tuple(tuple(t.shape[1:]) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
    return _account(name, traced, shapes, batch, strict or variant is not None)


def _count_file(file: str, input: Any, batch: int | None, training: bool, strict: bool, **options: Any) -> Account:
    """Of an ONNX file."""
    name = Path(file).name
    if training or options:
        raise UserError(f"{name} is a graph as it was exported", f"leave out {next(iter(options), 'training')}")
    batch = None if batch is None else batch_of(None, batch, 1)
    try:
        return _account(name, *onnx_trace(file, input, batch), strict)
    except UserError:
        raise
    except Exception as error:  # what others wrote can be wrong in more ways than are looked for
        raise UserError(f"{name} is damaged: {type(error).__name__}, {one_line(str(error))}") from error


def _account(name: str, traced: Trace, shapes: tuple[tuple[int, ...], ...], batch: int, strict: bool) -> Account:
    if strict and traced.uncounted:
        raise UserError(
            f"{name} cannot be counted in full: no rule for {', '.join(traced.uncounted)}",
            "give strict=False to count the rest",
        )
    return Account(
        name=name,
        input=shapes[0] if len(shapes) == 1 else shapes,
        batch=batch,
        rows=tuple(rows_of(traced)),
        uncounted=traced.uncounted,
        idle=tuple(idle(traced).items()),
        unregistered=tuple(by_child(traced.unregistered).items()),
        input_values=sum(prod(s) for s in traced.inputs),
        value_bytes=max((n.itemsize for n in traced.nodes if n.macs), default=4),
        depth=depth(traced),
        statistics=traced.statistics,
        trace=traced,
    )


def rows_of(traced: Trace) -> list[Row]:
    """One row per call of a leaf module and per operator called outside leaves, in the order in which they ended.

    They sum to what was traced, whatever the modules return.
    """
    rows: list[Row] = []
    counted: set[str] = set()  # parameters already assigned to a row
    repeats: Counter[str] = Counter()
    blocks = [*blocks_of(traced), {}]  # the last, -1, encloses the network
    backward, fields = backward_macs(traced), {-1: of_image(traced), **dict(enumerate(node_fields(traced)))}

    def first_reads(nodes: Sequence[int]) -> dict[str, Any]:
        """Weights and biases that these nodes are the first to read."""
        fresh = {p for n in nodes for p in traced.nodes[n].parameters if p in traced.parameters} - counted
        if not fresh:
            return {}
        counted.update(fresh)
        biases = sum(traced.parameters[p] for p in fresh if p.endswith("bias"))
        return {"weights": sum(traced.parameters[p] for p in fresh) - biases, "biases": biases}

    for kind, index, nodes in row_nodes(traced):
        if kind == "node":
            node = traced.nodes[index]
            name = node.op.strip("_")
            path = f"{traced.calls[node.call].path}.{name}".lstrip(".")
            repeats[path] += 1
            rows.append(
                Row(
                    path=path if repeats[path] == 1 else f"{path}_{repeats[path]}",
                    op=name,
                    shape=node.shape[1:],
                    **functional_geometry(node.op, node.args),
                    **first_reads(nodes),
                    macs=node.macs,
                    activations=prod(node.shape),
                    pointwise=in_place(node.op),
                    backward_macs=backward[index],
                    **field_of(fields[index]),
                    **blocks[node.call],
                )
            )
            continue
        call = traced.calls[index]
        computed = [n for n in nodes if not without_values(traced.nodes[n].op)]
        shape = traced.outputs[index] if index in traced.outputs else traced.nodes[nodes[-1]].shape
        rows.append(
            Row(
                path=call.path,
                op=call.kind,
                shape=shape[1:],
                **call.geometry,
                **first_reads(nodes),
                macs=sum(traced.nodes[n].macs for n in nodes),
                activations=prod(shape) if computed else 0,
                pointwise=all(in_place(traced.nodes[n].op) for n in computed),
                backward_macs=sum(backward[n] for n in nodes),
                **field_of(fields[traced.makers[index]] if index in traced.makers else None),
                **blocks[call.parent],
            )
        )
    assert sum(r.macs for r in rows) == sum(n.macs for n in traced.nodes), "multiply-adds that no row has"
    assert counted == {p for n in traced.nodes for p in n.parameters} & set(traced.parameters), (
        "parameters that no row has"
    )
    return rows


def row_nodes(traced: Trace) -> Iterator[tuple[str, int, list[int]]]:
    """The events that make a row, each with its nodes: the end of a leaf module's call, or an operator."""
    within: dict[int, list[int]] = {}  # leaf call: its nodes
    for kind, index in traced.events:
        if kind == "node":
            node = traced.nodes[index]
            if traced.calls[node.call].leaf:
                within.setdefault(node.call, []).append(index)
            elif not without_values(node.op) or node.parameters:
                yield kind, index, [index]
        elif traced.calls[index].leaf:
            nodes = within.get(index, [])
            if nodes or (index in traced.outputs and not traced.calls[index].container):
                yield kind, index, nodes


def field_of(field: Field | None) -> dict[str, Any]:
    if field is None:
        return {}
    h, w = field.height, field.width
    return {
        "receptive_field": (h.size, w.size),
        "jump": (_number(h.step), _number(w.step)),
        "start": (h.first, w.first),
        "exact": field.exact,
    }


def _number(n: Fraction | int) -> int | float:
    return int(n) if n == int(n) else float(n)


def functional_geometry(op: str, args: tuple[Any, ...]) -> dict[str, Any]:
    """Kernel, stride, padding and groups of a functional convolution."""
    if op != "convolution":
        return {}
    _, weight, _, stride, padding, *_, groups = args
    return {"kernel": tuple(weight[2:]), "stride": tuple(stride), "padding": tuple(padding), "groups": groups}


def blocks_of(traced: Trace) -> list[dict[str, Any]]:
    """The block of each call: the outermost module around it, below the network, that is not just a container."""
    blocks: list[dict[str, Any]] = []
    for index, call in enumerate(traced.calls):
        block = blocks[call.parent] if call.parent >= 0 else {}
        blocks.append(block or ({"block": call.path, "block_op": call.kind} if index and not call.container else {}))
    return blocks


def idle(traced: Trace) -> dict[str, int]:
    """Parameters that no operator read, by the child of the network that holds them."""
    read = {p for node in traced.nodes for p in node.parameters}
    return by_child({name: n for name, n in traced.parameters.items() if name not in read})


def by_child(sizes: Mapping[str, int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for name, n in sizes.items():
        found[name.split(".")[0]] += n
    return dict(found)
