"""The command line: one verb a file (HELP, add, run). Verbs parse, call the library and print."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from .. import __version__
from ..errors import UserError

VERBS = (
    "list",
    "show",
    "draw",
    "diff",
    "claims",
    "layer",
    "memory",
    "reconcile",
    "recipes",
    "train",
    "lr",
    "evaluate",
    "predict",
    "data",
    "doctor",
    "demo",
)


class Parser(argparse.ArgumentParser):
    """Refuses bad arguments in one line, as UserError does everything else."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="convatlas", description="An atlas of convolutional networks, each exact to its paper.")
    top.add_argument("--version", action="version", version=f"convatlas {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for verb in VERBS:
        module = import_module(f".{verb}", __package__)
        added = verbs.add_parser(verb, help=module.HELP, description=module.HELP)
        module.add(added)
        added.set_defaults(run=module.run)
    return top


def process() -> str:
    """Which of torchrun's processes this is, for messages; nothing for the first, or the only one."""
    rank = os.environ.get("RANK", "0") if "TORCHELASTIC_RUN_ID" in os.environ else "0"
    return "" if rank == "0" else f" (process {rank})"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status: 0 done, 2 the user can mend it (one line says how), 130 Ctrl-C."""
    warnings.filterwarnings("ignore", module="PIL")  # what is wrong with an image is said in our own line
    try:
        args = parser().parse_args(argv)
        return args.run(args) or 0
    except UserError as error:
        if str(error):  # else another process says it
            print(f"convatlas{process()}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("convatlas: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stdout = None
        return 0
