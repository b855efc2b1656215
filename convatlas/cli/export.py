"""`convatlas export`: a MODEL as a file for ONNX Runtime, OpenVINO or torch.export, checked against torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from . import checks, model
from .checks import is_network
from .output import print_json, say

if TYPE_CHECKING:
    from ..weights.model import Model

HELP = "a network as a file for ONNX, OpenVINO or torch.export, checked"
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
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32", help="fp32 (default) or int8")
    parser.add_argument("--calibrate", metavar="SOURCE", help="data whose training images set the ranges of int8")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> None:
    if not args.out.parent.is_dir():
        raise UserError(f"there is no folder {args.out.parent} for {args.out.name}", "create it first")
    if not args.untrained:
        model.checked(args.model)
    elif not is_network(args.model):
        raise UserError(f"--untrained is for networks of the catalogue, not {args.model}", "see `convatlas list`")
    if args.precision == "int8":
        run_int8(args)
        return
    if args.calibrate:
        raise UserError("--calibrate is for int8", "give --precision int8, or leave it out")
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


def run_int8(args: argparse.Namespace) -> None:
    """Says what int8 costs in accuracy, and then writes the file."""
    if not args.calibrate:
        raise UserError("int8 needs images to calibrate on", "give data with training images: --calibrate SOURCE")
    if args.uint8 or args.untrained:
        other = "--uint8" if args.uint8 else "--untrained"
        raise UserError(f"{other} does not go with --precision int8", "leave out one of them")
    checks.data_source(args.calibrate)
    from ..data.sources import load_data
    from ..engines.calibration import calibration_images
    from ..engines.export_int8 import engine_of, export_int8
    from ..engines.judged import judged

    engine, found, data = engine_of(args.to), trained(args), load_data(args.calibrate)
    images = calibration_images(found, data)
    what = judged(found, engine, data, images)
    say(f"convatlas: {what}", file=sys.stderr)
    first, *others = export_int8(found, args.to, args.out, images, what)
    if args.json:
        print_json(
            {
                "file": str(first),
                "format": args.to,
                "files": [str(it) for it in (first, *others)],
                "int8": what.to_json(),
            }
        )
        return
    say(
        f"{first}: {found.network} in int8, {first.stat().st_size / 1e6:.2f} MB, takes float32 NCHW, any batch",
        f"  calibrated on {len(images)} training images of {args.calibrate}",
        f"  beside it: {', '.join(file.name for file in others)}",
    )


def trained(args: argparse.Namespace) -> Model:
    try:
        return model.load(args, "cpu")
    except UserError as error:
        if is_network(args.model) and not Path(args.model).exists():
            raise UserError(error.what, "give weights, or --untrained for random ones") from error
        raise
