"""The shared options of verbs that count a network: which one, image size, number of classes."""

from __future__ import annotations

import argparse
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..accounting.resolve import is_file
from ..accounting.rows import Account
from ..errors import UserError, first_line, out_of_memory
from ..tables import entry, load
from .output import parse_input

if TYPE_CHECKING:
    from ..accounting.resolve import Given

NAME = (
    "a network, as `list` or its paper spells it; your own as FILE.py:CALLABLE; a MODEL: a run, weights; "
    "for `show`, an ONNX file"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", metavar="CxHxW", help="image size (default: the paper's)")
    parser.add_argument("--classes", metavar="N", type=int, help="number of classes (default: the paper's)")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="change a number that the network is built with (repeatable): width=0.75, depth=40, phi=1.5",
    )


def checked(name: str) -> Given:
    """The name as `resolve` takes it: the catalogue's name, FILE.py:CALLABLE as given, or the network of a MODEL.

    Raises UserError for an unknown name.
    """
    if is_file(name) or name.endswith(".onnx"):
        return name
    try:
        return str(entry(name)["name"])
    except UserError:
        if not is_model(name):
            raise
    from ..weights.model import describe

    return describe(name)


def is_model(name: str) -> bool:
    path = Path(name)
    return path.is_file() or (path / "run.json").is_file() or "@" in name


def options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `resolve`, and of functions that use it, besides the name."""
    made = {} if args.classes is None else {"classes": args.classes}
    return {"input": args.input and parse_input(args.input), **made, **changes(args.set)}


def changes(given: list[str]) -> dict[str, int | float]:
    """The numbers of `--set NAME=VALUE`, by name. Raises UserError for what is none."""
    from ..recipe.settings import literal

    found = {}
    for change in given:
        name, _, text = (part.strip() for part in change.partition("="))
        value = literal(text)
        if (
            not name.isidentifier()
            or isinstance(value, bool)
            or not isinstance(value, int | float)
            or not isfinite(value)
        ):
            raise UserError(f"--set {change[:40]} gives no number", "write it as --set width=0.75")
        found[name] = value
    return found


def built(network: Given, args: argparse.Namespace) -> None:
    """Raises UserError where the network cannot be built with `--set`."""
    if not args.set:
        return
    if not isinstance(network, str) or is_file(network) or network.endswith(".onnx"):
        raise UserError("--set changes networks of the atlas", "leave it out, or give one by name")
    from ..accounting.resolve import resolve

    try:
        resolve(network, **options(args))
    except UserError:
        raise
    except Exception as error:  # of any kind: constructors do not check every number, and fail wherever it does not fit
        if out_of_memory(error):
            raise
        told = ", ".join(args.set)
        raise UserError(f"{network} cannot be built with {told} ({first_line(error)})", "give another value") from error


def is_stock(network: Given, args: argparse.Namespace) -> bool:
    """Whether this is exactly the catalogue's network."""
    catalogued = isinstance(network, str) and not is_file(network) and not network.endswith(".onnx")
    return catalogued and args.input is None and args.classes is None and not args.set


def count(network: Given, args: argparse.Namespace, batch: int = 1) -> Account:
    """The network's account: the shipped one (which needs no torch) if it is exactly the catalogue's."""
    if isinstance(network, str) and is_stock(network, args) and batch == 1:
        return load(network)
    from ..accounting import account

    built(network, args)
    if isinstance(network, str) and network.endswith(
        ".onnx"
    ):  # as many images as it was exported for, if that is fixed
        return account(network, batch=None if batch == 1 else batch, **options(args))
    return named(account(network, batch=batch, **options(args)), args)


def named(counts: Account, args: argparse.Namespace) -> Account:
    """A network that `--set` has changed has its values in its name: it is no longer the paper's."""
    return replace(counts, name=f"{counts.name}({', '.join(args.set)})") if args.set else counts
