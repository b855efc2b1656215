"""`convatlas export`: a MODEL as a file for ONNX Runtime, OpenVINO or torch.export, checked against torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from . import model
from .checks import is_network
from .output import print_json, say

if TYPE_CHECKING:
    from ..weights.model import Model

HELP = "write a network for other engines: ONNX, OpenVINO, torch.export; checked"
FORMATS = ("onnx", "openvino", "torch")


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas export runs/first --to onnx -o first.onnx"
    model.add(parser, help=f"{model.MODEL}; with --untrained, a network that `convatlas list` has")
    parser.add_argument("--to", choices=FORMATS, required=True, help="ONNX, OpenVINO's IR, or torch.export's .pt2")
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        type=Path,
        required=True,
        help="the file: .onnx, .xml (with a .bin) or .pt2; beside it come its card, FILE.md, and a program, FILE.py",
    )
    parser.add_argument(
        "--uint8", action="store_true", help="take images as uint8 (n, H, W, C), and normalise them inside"
    )
    parser.add_argument("--untrained", action="store_true", help="random weights, for timing a network")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> None:
    if not args.out.parent.is_dir():
        raise UserError(f"there is no folder {args.out.parent} for {args.out.name}", "create it first")
    if not args.untrained:
        model.checked(args.model)
    elif not is_network(args.model):
        raise UserError(f"--untrained is for networks of the catalogue, not {args.model}", "see `convatlas list`")
    from ..engines.export import export, untrained

    found = model.told(untrained(args.model)) if args.untrained else trained(args)
    made = export(found, args.to, args.out, uint8=args.uint8)
    if args.json:
        print_json(made.to_json())
        return
    first, *others = made.files
    say(
        f"{first}: {found.network}, {made.bytes / 1e6:.2f} MB, takes {made.images}, any batch",
        f"  differs from torch by {made.difference:.1e} standard deviations of the logits (at most 1e-4 is allowed)",
        f"  beside it: {', '.join(file.name for file in others)}",
    )


def trained(args: argparse.Namespace) -> Model:
    try:
        return model.load(args, "cpu")
    except UserError as error:
        if is_network(args.model) and not Path(args.model).exists():
            raise UserError(error.what, "give weights, or --untrained for random ones") from error
        raise
