"""Shell completion beyond argcomplete's verbs and options: networks, recipes, sources and runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.kinds import SOURCES
from ..recipes import recipes
from ..tables import index


def runs() -> list[str]:
    """The run folders in the current folder and in runs/."""
    return [str(file.parent) for pattern in ("*/run.json", "runs/*/run.json") for file in Path().glob(pattern)]


BY_METAVAR: dict[str, Callable[[], Any]] = {
    "NETWORK": index,
    "A": index,
    "B": index,
    "RECIPE": recipes,
    "SOURCE": lambda: [source.removesuffix("DIR") for source in SOURCES],
    "RUN": runs,
    "MODEL": runs,
    "RUN_OR_FILE": runs,
}


def complete(parser: argparse.ArgumentParser) -> None:
    """Sets argcomplete's completer for each argument of the parser and its subparsers, by metavar."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                complete(below)
        elif action.metavar in BY_METAVAR:
            values = BY_METAVAR[str(action.metavar)]
            action.completer = lambda values=values, **_: list(values())  # type: ignore[attr-defined]
