"""The shared options of verbs that run a network: which MODEL, and what its file does not say."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, did_you_mean
from ..runs.record import read_record
from ..tables import index
from .checks import is_network
from .output import say

if TYPE_CHECKING:
    import torch

    from ..weights.model import Model

MODEL = "a run folder, a weights file of any library, or NETWORK@SOURCE (see `convatlas weights list`)"
RUN = f"{MODEL}; an .onnx file is run as it is"


def add(parser: argparse.ArgumentParser, *, several: bool = False, help: str = MODEL) -> None:
    if several:
        parser.add_argument("models", metavar="MODEL", nargs="+", help=f"each {help}")
    else:
        parser.add_argument("model", metavar="MODEL", help=help)
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--which", choices=("best", "last"), help="which checkpoint of a run (default best, else last)")
    parser.add_argument("--network", metavar="N", help="the network of a weights file, where its layers fit several")
    parser.add_argument("--preprocess", metavar="P", help="how its images were prepared: imagenet, half, caffe ...")


def checked(model: str) -> str:
    """The MODEL as given. Raises UserError for one that cannot exist, before torch is imported."""
    path = Path(model)
    if path.is_dir():
        read_record(path)
    elif not path.exists() and not is_network(model.partition("@")[0]) and "@" not in model:
        meant = did_you_mean(model, index())
        raise UserError(f"there is no model {model}", meant or "give a run folder, a weights file, or NETWORK@SOURCE")
    return model


def running(args: argparse.Namespace, device: str | torch.device, model: str | None = None) -> Model:
    """The Model (args.model, or the one given) to run: of an ONNX file the file itself, otherwise as `load`."""
    file = model or args.model
    if not file.endswith(".onnx"):
        return load(args, device, model)
    if args.which:
        raise UserError(f"{file} is not a run, and has one set of weights", "leave out --which")
    if args.engine not in ("torch", "onnxruntime") or args.precision != "fp32":
        raise UserError(f"{file} is run as it is, by ONNX Runtime", "leave out --engine and --precision")
    from ..engines.onnx_model import opened
    from ..machine.facts import cores

    threads = args.threads or cores()
    return told(opened(file, network=args.network, preprocess=args.preprocess, threads=threads))


def load(args: argparse.Namespace, device: str | torch.device, model: str | None = None) -> Model:
    """The Model as a network of the catalogue, once what was done to its weights is said."""
    from ..weights.model import load

    with downloading() as progress:
        found = load(
            model or args.model, args.which, device, network=args.network, preprocess=args.preprocess, progress=progress
        )
    return told(found)


def told(found: Model) -> Model:
    for note in found.notes:
        say(f"convatlas: {note}", file=sys.stderr)
    return found


@contextmanager
def downloading() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, drawn once a download tells how many bytes have come."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("downloading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)

    def progress(size: int, promised: int) -> None:
        if not bar.tasks:
            bar.start()
            bar.add_task("")
        bar.update(bar.tasks[0].id, completed=size, total=promised or None)

    try:
        yield progress
    finally:
        if bar.tasks:
            bar.stop()
