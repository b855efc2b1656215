"""`convatlas layer`: what one layer makes of an image and what it costs, with the numbers put into the formulas."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..arithmetic import FC, Conv, Cost, Pool, Transposed
from ..errors import UserError
from .output import print_json, size

HELP = "one layer's output size, parameters and cost, with formulas"
VALUE_BYTES = 4  # float32


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas layer conv --input 3x227x227 --filters 96 --kernel 11 --stride 4"
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    conv = kinds.add_parser("conv", help="a convolution")
    _window(conv, stride="1", padding='zeros on each side, PxQ, or "same", as TensorFlow pads (default 0)')
    _filters(conv)

    pool = kinds.add_parser("pool", help="maximum or average pooling")
    _window(pool, stride=None, padding='on each side, PxQ, or "same" (default 0)')
    pool.add_argument("--ceil", action="store_true", help="round up: the last window may hang out of the image")

    transposed = kinds.add_parser("transposed", help='a transposed convolution ("deconvolution")')
    _window(transposed, stride="1", padding="what is cut off on each side, or PxQ (default 0)")
    transposed.add_argument("--output-padding", metavar="E", default="0", help="added after, less than the stride")
    _filters(transposed)

    fc = kinds.add_parser("fc", help="a fully connected layer")
    fc.add_argument("--input", metavar="CxHxW", required=True, help="channels x height x width, or a number of units")
    fc.add_argument("--units", metavar="N", type=int, required=True)
    fc.add_argument("--no-bias", action="store_true")

    for kind in kinds.choices.values():
        kind.add_argument("--json", action="store_true", help="print JSON")


def _window(parser: argparse.ArgumentParser, stride: str | None, padding: str) -> None:
    parser.add_argument("--input", metavar="CxHxW", required=True, help="channels x height x width")
    parser.add_argument("--kernel", metavar="K", required=True, help="side of the kernel, or KxL")
    default = stride or "the kernel"
    parser.add_argument("--stride", metavar="S", default=stride, help=f"step, or SxT (default {default})")
    parser.add_argument("--padding", metavar="P", default="0", help=padding)
    parser.add_argument(
        "--dilation", metavar="D", default="1", help="step between what a kernel reads, or DxE (default 1)"
    )


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filters", metavar="N", type=int, required=True, help="output channels")
    parser.add_argument(
        "--groups", metavar="G", type=int, default=1, help="groups of channels that do not mix (default 1)"
    )
    parser.add_argument("--no-bias", action="store_true")


def run(args: argparse.Namespace) -> None:
    if args.kind == "fc":
        shape = counts("input", args.input, (1, 3), "channels x height x width or units", "256x6x6 or 4096")
    else:
        shape = counts("input", args.input, (3,), "channels x height x width", "3x227x227")
    layer = LAYERS[args.kind](args)
    cost = layer.on(shape)
    if args.json:
        print_json(to_json(args.kind, shape, cost))
        return
    print(f"{describe(args.kind, layer)} on {size(shape)}")
    width = max(len(value) for _, value, _ in lines(cost))
    for what, value, how in lines(cost):
        print(f"  {what:<14} {value:>{width}}  {how}".rstrip())


LAYERS: dict[str, Callable[[argparse.Namespace], Conv | Pool | Transposed | FC]] = {
    "conv": lambda a: Conv(
        a.filters, sides(a, "kernel"), sides(a, "stride"), _padding(a), sides(a, "dilation"), a.groups, not a.no_bias
    ),
    "pool": lambda a: Pool(
        sides(a, "kernel"), a.stride and sides(a, "stride"), _padding(a), sides(a, "dilation"), a.ceil
    ),
    "transposed": lambda a: Transposed(
        a.filters,
        sides(a, "kernel"),
        sides(a, "stride"),
        sides(a, "padding"),
        sides(a, "dilation"),
        a.groups,
        sides(a, "output_padding"),
        not a.no_bias,
    ),
    "fc": lambda a: FC(a.units, not a.no_bias),
}


def counts(option: str, text: str, lengths: tuple[int, ...], form: str, example: str) -> tuple[int, ...]:
    """ "3x227x227" -> (3, 227, 227), of one of the given lengths. Raises UserError for anything else."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) not in lengths or not all(p.isdecimal() for p in parts):
        raise UserError(f"--{option.replace('_', '-')} {text!r} is not {form}", f"write it as in {example}")
    return tuple(map(int, parts))


def sides(args: argparse.Namespace, option: str) -> tuple[int, int]:
    """One number for both sides, or height x width."""
    found = counts(option, getattr(args, option), (1, 2), "a number or height x width", "3 or 1x7")
    return found[0], found[-1]


def _padding(args: argparse.Namespace) -> tuple[int, int] | str:
    return "same" if args.padding.lower() == "same" else sides(args, "padding")


def describe(kind: str, layer: Any) -> str:
    """ "conv 11x11/4, 96 filters"."""
    if isinstance(layer, FC):
        return f"fc, {layer.units} units" + ("" if layer.bias else ", no bias")
    stride = layer.kernel if layer.stride is None else layer.stride
    words = [f"{kind} {size(layer.kernel)}/{_short(stride)}"]
    for name, usual in (("padding", "0"), ("output_padding", "0"), ("dilation", "1"), ("groups", "1")):
        value = _short(getattr(layer, name, usual))
        if value != usual:
            words.append(f"{name.replace('_', ' ')} {value}")
    if isinstance(layer, Pool):
        words += ["rounded up"] if layer.ceil else []
    else:
        words += [f"{layer.filters} filters"] + ([] if layer.bias else ["no bias"])
    return ", ".join(words)


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return str(value[0]) if value[0] == value[1] else size(value)
    return str(value)


def lines(cost: Cost) -> list[tuple[str, str, str]]:
    """What is printed: the quantity, its value, and how it comes about."""
    f = cost.formulas
    rows = [("output", size(cost.shape), f.get("height", ""))]
    if f.get("width") != f.get("height"):
        rows[0] = ("output", size(cost.shape), f"height {f['height']}, width {f['width']}")
    if any(cost.unused):
        rows.append(("unused", size(cost.unused), "rows x columns of the input that no window reads"))
    rows.append(("parameters", f"{cost.params:,}", f.get("params", "")))
    if cost.biases:
        rows.append(("weights", f"{cost.weights:,}", f["weights"]))
    return [
        *rows,
        ("multiply-adds", f"{cost.macs:,}", f.get("macs", "")),
        ("values", f"{cost.values:,}", "*".join(map(str, cost.shape))),
        ("bytes", f"{VALUE_BYTES * cost.values:,}", "in float32"),
    ]


def to_json(kind: str, shape: tuple[int, ...], cost: Cost) -> dict[str, Any]:
    return {
        "layer": kind,
        "input": shape,
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
