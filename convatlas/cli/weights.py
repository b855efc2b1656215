"""`convatlas weights`: published weights listed and fetched, weights files checked and converted."""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase

from ..errors import UserError
from . import model
from .output import add_formats, print_report, say

HELP = "published weights: list, get; weights files: check, convert"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas weights list 'resnet*'"
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")
    listing = actions.add_parser(
        "list",
        help="published weights that are known, with what their sources say of them",
        epilog="example: convatlas weights list 'resnet*' --licence BSD-3-Clause",
    )
    listing.add_argument(
        "pattern", metavar="PATTERN", nargs="?", default="*", help="of NETWORK@SOURCE, or a part of it"
    )
    listing.add_argument("--licence", metavar="L", help="only weights under this licence, such as Apache-2.0")
    listing.add_argument("--here", action="store_true", help="only weights on this machine")
    add_formats(listing)
    get = actions.add_parser(
        "get",
        help="fetch published weights, verified, and print their file",
        description="Fetch published weights to the cache (CONVATLAS_CACHE), verified, and print their file. "
        "CONVATLAS_MIRROR is a folder or address to take them from; CONVATLAS_OFFLINE=1 opens no connection.",
        epilog="example: convatlas weights get resnet20@akamaster",
    )
    get.add_argument(
        "name", metavar="NAME", help="NETWORK@SOURCE, as `weights list` has it, or NETWORK@hf:OWNER/REPOSITORY"
    )
    check = actions.add_parser(
        "check",
        help="say what a weights file is, which network it fits, and what would be done to load it",
        epilog="example: convatlas weights check resnet20-12fca82f.th",
    )
    check.add_argument("file", metavar="FILE", help="a weights file of any library")
    check.add_argument("--network", metavar="N", help="try this network only")
    add_formats(check)
    convert = actions.add_parser(
        "convert",
        help="write a MODEL as one file that says its network, preprocessing and classes, with a model card",
        epilog="example: convatlas weights convert resnet20@akamaster --out resnet20.safetensors",
    )
    model.add(convert)
    convert.add_argument(
        "--out", metavar="FILE", required=True, help="a .safetensors file; its card is the .md beside it"
    )


def run(args: argparse.Namespace) -> None:
    {"list": listed, "get": got, "check": checked, "convert": converted}[args.action](args)


def listed(args: argparse.Namespace) -> None:
    from ..report.weights import listing
    from ..weights.cache import at_hand
    from ..weights.published import published

    found = [
        row
        for row in published().values()
        if (fnmatchcase(row.name, args.pattern) or args.pattern in row.name)
        and (args.licence is None or row.licence.lower() == args.licence.lower())
    ]
    here = [at_hand(row) is not None for row in found]
    if args.here:
        found, here = [row for row, it in zip(found, here, strict=True) if it], [True] * sum(here)
    if not found:
        raise UserError(f"no published weights match {args.pattern!r}", "see `convatlas weights list`")
    print_report(listing(found, here), args)


def got(args: argparse.Namespace) -> None:
    from ..weights.cache import file_of
    from ..weights.hub import fetch_from_hub, on_hub
    from ..weights.published import find_published

    hub = on_hub(args.name)
    with model.downloading() as progress:
        file = fetch_from_hub(hub[1]) if hub else file_of(find_published(args.name), progress)
    say(file)


def checked(args: argparse.Namespace) -> None:
    from ..report.weights import checked as report
    from ..weights.check import check

    print_report(report(check(args.file, args.network)), args)


def converted(args: argparse.Namespace) -> None:
    model.checked(args.model)
    if not args.out.endswith(".safetensors"):
        raise UserError(f"--out {args.out} does not end in .safetensors")
    from ..weights.convert import convert

    file = convert(model.load(args, "cpu"), args.out)
    say(f"{file}, and its card {file.with_suffix('.md')}")
