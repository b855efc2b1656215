"""The options of the verbs that count a network: which one, on which image, with how many classes."""

from __future__ import annotations

import argparse
from typing import Any

from ..accounting.resolve import is_file
from ..accounting.rows import Account
from ..tables import entry, load
from .output import parse_input

NAME = "a network, as `list` or its paper spells it, or your own: FILE.py:CALLABLE"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", metavar="CxHxW", help="image size (default: the paper's)")
    parser.add_argument("--classes", metavar="N", type=int, help="number of classes (default: the paper's)")


def checked(name: str) -> str:
    """The catalogue's name, or the file and callable as they are given. Raises UserError for an unknown name."""
    return name if is_file(name) else str(entry(name)["name"])


def options(args: argparse.Namespace) -> dict[str, Any]:
    """What `resolve` and the functions that use it take besides the name."""
    made = {} if args.classes is None else {"classes": args.classes}
    return {"input": args.input and parse_input(args.input), **made}


def is_stock(name: str, args: argparse.Namespace) -> bool:
    """Whether the network is meant as the catalogue has it."""
    return not is_file(name) and args.input is None and args.classes is None


def count(name: str, args: argparse.Namespace, batch: int = 1) -> Account:
    """The network's account: the shipped one (which needs no torch) where it is the catalogue's own."""
    if is_stock(name, args) and batch == 1:
        return load(name)
    from ..accounting import account

    return account(name, batch=batch, **options(args))
