"""`convatlas layer`: output size and cost of a layer or a stack of layers, with the formulas."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ..arithmetic import FC, Conv, Pool, Transposed, parse_layer, stack
from ..arithmetic.stacks import FORMS
from ..errors import UserError
from ..limits import whole_number
from ..report.layer import Layer, report, stack_report
from . import DOCS
from .output import add_formats, print_report

HELP = "output size, parameters and cost of a layer or a stack of them"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: convatlas layer conv --input 3x227x227 --filters 96 --kernel 11 --stride 4\n"
        f"Every worked figure of the lectures, with the command that reproduces it: {DOCS / 'lectures.md'}"
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")

    conv = kinds.add_parser("conv", help="a convolution")
    _window(conv, stride="1", padding='zeros on each side, PxQ, or "same", as TensorFlow pads (default 0)')
    _filters(conv)

    pool = kinds.add_parser("pool", help="maximum or average pooling")
    _window(pool, stride=None, padding='on each side, PxQ, or "same" (default 0)')
    pool.add_argument("--ceil", action="store_true", help="round up: the last window may extend past the image")

    transposed = kinds.add_parser("transposed", help='a transposed convolution ("deconvolution")')
    _window(transposed, stride="1", padding="cropped from each side, or PxQ (default 0)")
    transposed.add_argument(
        "--output-padding", metavar="E", default="0", help="extra output size on one side, less than the stride"
    )
    _filters(transposed)

    fc = kinds.add_parser("fc", help="a fully connected layer")
    fc.add_argument("--input", metavar="CxHxW", required=True, help="channels x height x width, or a number of units")
    fc.add_argument("--units", metavar="N", type=int, required=True)
    fc.add_argument("--no-bias", action="store_true")

    several = kinds.add_parser("stack", help="several layers in sequence, also compared with a second stack")
    several.epilog = (
        f"LAYER is one of: {'; '.join(FORMS.values())}. "
        "Example: convatlas layer stack --input 64x56x56 'conv 64 3x3 pad 1' 'conv 64 3x3 pad 1' 'conv 64 3x3 pad 1' "
        "--against 'conv 64 7x7 pad 3'"
    )
    several.add_argument("layers", metavar="LAYER", nargs="+", help="in words, quoted: 'conv 64 3x3 pad 1'")
    several.add_argument("--input", metavar="CxHxW", required=True, help="channels x height x width")
    several.add_argument("--against", metavar="LAYER", nargs="+", help="a second stack to compare with")
    several.add_argument("--against-input", metavar="CxHxW", help="the second stack's input (default the same)")

    for windowed in (conv, pool, transposed):
        windowed.add_argument(
            "--plot", metavar="FILE", type=Path, help="draw the windows and the padding (.png, .svg, .pdf)"
        )
    for kind in kinds.choices.values():
        add_formats(kind)


def _window(parser: argparse.ArgumentParser, stride: str | None, padding: str) -> None:
    parser.add_argument("--input", metavar="CxHxW", required=True, help="channels x height x width")
    parser.add_argument("--kernel", metavar="K", required=True, help="side of the kernel, or KxL")
    default = stride or "the kernel"
    parser.add_argument("--stride", metavar="S", default=stride, help=f"step, or SxT (default {default})")
    parser.add_argument("--padding", metavar="P", default="0", help=padding)
    parser.add_argument(
        "--dilation", metavar="D", default="1", help="spacing of the kernel's elements, or DxE (default 1)"
    )


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filters", metavar="N", type=int, required=True, help="output channels")
    parser.add_argument(
        "--groups", metavar="G", type=int, default=1, help="groups of channels that do not mix (default 1)"
    )
    parser.add_argument("--no-bias", action="store_true")


def run(args: argparse.Namespace) -> None:
    if args.kind == "stack":
        run_stack(args)
        return
    if args.kind == "fc":
        shape = counts("input", args.input, (1, 3), "channels x height x width or units", "256x6x6 or 4096")
    else:
        shape = counts("input", args.input, (3,), "channels x height x width", "3x227x227")
    layer = LAYERS[args.kind](args)
    cost = layer.on(shape)
    if args.kind != "fc" and args.plot is not None:
        from ..report.layer_plot import plot

        plot(args.kind, layer, shape, cost, args.plot)
    print_report(report(args.kind, layer, shape, cost), args)


def run_stack(args: argparse.Namespace) -> None:
    if args.against_input and not args.against:
        raise UserError("--against-input needs a second stack", "give one with --against")
    shape = counts("input", args.input, (1, 3), "channels x height x width or units", "64x56x56")
    first, second = stack(shape, [parse_layer(text) for text in args.layers]), None
    if args.against:
        if args.against_input:
            shape = counts(
                "against_input", args.against_input, (1, 3), "channels x height x width or units", "64x56x56"
            )
        second = stack(shape, [parse_layer(text) for text in args.against])
    print_report(stack_report(first, second), args)


LAYERS: dict[str, Callable[[argparse.Namespace], Layer]] = {
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
    """ "3x227x227" -> (3, 227, 227), with one of the given lengths. Raises UserError for anything else."""
    found = [whole_number(part) for part in text.lower().replace("×", "x").split("x")]
    numbers = tuple(n for n in found if n is not None)
    if len(found) not in lengths or len(numbers) < len(found):
        raise UserError(f"--{option.replace('_', '-')} {text[:40]!r} is not {form}", f"write it as in {example}")
    return numbers


def sides(args: argparse.Namespace, option: str) -> tuple[int, int]:
    """One number for both sides, or height x width."""
    found = counts(option, getattr(args, option), (1, 2), "a number or height x width", "3 or 1x7")
    return found[0], found[-1]


def _padding(args: argparse.Namespace) -> tuple[int, int] | str:
    return "same" if args.padding.lower() == "same" else sides(args, "padding")
