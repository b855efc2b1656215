"""The options of verbs that run a network on an engine: which one, how precisely, on how many threads."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ..errors import UserError, unknown
from . import checks
from .output import say

if TYPE_CHECKING:
    from ..data.types import Split
    from ..weights.model import Model

ENGINES = ("torch", "onnxruntime", "openvino", "auto")
PRECISIONS = ("fp32", "bf16", "int8")


def add(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine",
        metavar="E",
        default="torch",
        help="torch (default), onnxruntime, openvino or auto: the fastest here",
    )
    group.add_argument("--precision", metavar="P", default="fp32", help="fp32 (default), bf16 or int8")
    group.add_argument("--threads", metavar="N", type=int, help="threads that compute (default: one per core)")
    group.add_argument("--calibrate", metavar="SOURCE", help="data whose training images set the ranges of int8")


def checked(args: argparse.Namespace) -> None:
    """Raises UserError for what does not go together, before torch is imported."""
    if args.engine not in ENGINES:
        raise unknown("engine", args.engine, ENGINES)
    if args.precision not in PRECISIONS:
        raise unknown("precision", args.precision, PRECISIONS)
    if args.threads is not None:
        checks.at_least_one("--threads", args.threads)
    if not is_plain(args) and args.device not in ("auto", "cpu"):
        raise UserError(f"engines run on the CPU, not on {args.device}", "leave out --device, or the engine's options")
    if args.precision == "int8" and not args.calibrate:
        raise UserError("int8 needs images to calibrate on", "give data with training images: --calibrate SOURCE")
    if args.calibrate and args.precision != "int8":
        raise UserError("--calibrate is for int8", "give --precision int8, or leave it out")
    if args.calibrate:
        checks.data_source(args.calibrate)


def is_plain(args: argparse.Namespace) -> bool:
    """Whether the network runs as it was loaded, on whatever device: nothing else was asked for."""
    return args.engine == "torch" and args.precision == "fp32" and args.threads is None


def device(args: argparse.Namespace) -> str:
    return args.device if is_plain(args) else "cpu"


def on(args: argparse.Namespace, model: Model, scored: Split | None = None) -> Model:
    """The model as it is to run, calibrated on no image of `scored`. Says which engine was chosen, and what int8 costs
    in accuracy. An ONNX file is left as it is."""
    from ..engines.net import EngineNet

    if is_plain(args) or isinstance(model.net, EngineNet):
        return model
    if args.engine == "torch" and args.precision == "fp32":
        import torch

        torch.set_num_threads(args.threads)
        return model
    from ..engines.sessions import on
    from ..machine.facts import cores

    how = args.engine, args.precision, args.threads or cores(), args.batch
    if not args.calibrate:
        return on(model, *how, tell=tell)
    from ..data.sources import load_data
    from ..engines.calibration import calibration_images
    from ..engines.judged import judged

    data = load_data(args.calibrate)
    images = calibration_images(model, data, scored)
    found = on(model, *how, calibrate=images, tell=tell)
    tell(f"calibrated on {len(images)} training images of {args.calibrate}")
    tell(str(judged(model, str(found.net.engine), data, images)))
    return found


def tell(text: str) -> None:
    say(f"convatlas: {text}", file=sys.stderr)
