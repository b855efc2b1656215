"""The image options that several verbs share, and loading a data set with them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..errors import UserError
from . import process
from .output import say

if TYPE_CHECKING:
    from ..data.types import Data

T = TypeVar("T")
Arguments = argparse.ArgumentParser | argparse._ArgumentGroup
MEGAPIXELS = 50.0


def add_data(parser: Arguments) -> None:
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        required=True,
        help="digits, mnist:DIR, cifar10:DIR, folder:DIR, shards:DIR ... or DIR, whose kind is detected",
    )
    add_val(parser)


def add_val(parser: Arguments) -> None:
    parser.add_argument(
        "--val",
        metavar="SHARE",
        type=float,
        help="share of the training images held out to choose the best epoch (default 0.1 for a folder without val, "
        "else 0)",
    )


def add_bad(parser: Arguments) -> None:
    parser.add_argument(
        "--bad",
        metavar="POLICY",
        default="fail",
        help="broken image files: fail (default), trust (no check), skip (leave out) or quarantine:DIR (move)",
    )
    add_max(parser)


def add_max(parser: Arguments) -> None:
    parser.add_argument(
        "--max-megapixels", metavar="N", type=float, default=MEGAPIXELS, help="larger images are refused (default 50)"
    )


def max_pixels(args: argparse.Namespace) -> int:
    if not 0 < args.max_megapixels < 1e6:
        raise UserError(f"--max-megapixels {args.max_megapixels:g} is out of range", "give a number above 0")
    return round(args.max_megapixels * 1e6)


def load(args: argparse.Namespace, **more: int) -> Data:
    """Loads the data set that --data names, and says what is odd about it."""
    from ..data.sources import load_data

    val = getattr(args, "val", None)
    data = load_data(
        args.data, val=val, bad=args.bad, max_pixels=max_pixels(args), progress=bar("reading images"), **more
    )
    if not process():
        for text in data.notes:
            say(f"convatlas: note: {text}", file=sys.stderr)
    return data


class bar:
    """A progress bar on the terminal over a sequence."""

    def __init__(self, what: str):
        self.what = what

    def __call__(self, sequence: Sequence[T]) -> Iterable[T]:
        from rich.console import Console
        from rich.progress import track

        quiet = not sys.stderr.isatty() or len(sequence) < 2
        return track(sequence, self.what, console=Console(stderr=True), transient=True, disable=quiet)
