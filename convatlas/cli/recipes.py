"""`convatlas recipes`: how each network is trained, and the result that its paper prints."""

from __future__ import annotations

import argparse

from ..recipe import LADDERS
from ..recipes import find_recipe, recipes
from ..report.recipes import recipe_list, recipe_report
from ..tables import index
from .output import add_formats, print_report

HELP = "how each network is trained: settings, result, departures"


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: convatlas recipes resnet_cifar"
    parser.add_argument(
        "name", nargs="?", metavar="RECIPE", help="one recipe with its settings (default: all, one per line)"
    )
    parser.add_argument("--ladder", choices=LADDERS, help="only the recipes of this ladder")
    add_formats(parser)


def run(args: argparse.Namespace) -> None:
    chosen = [find_recipe(args.name)] if args.name else list(recipes().values())
    chosen = [recipe for recipe in chosen if args.ladder in (None, recipe.ladder)]
    users: dict[str, list[str]] = {recipe.name: [] for recipe in chosen}
    for name, record in index().items():
        users.get(record["recipe"], []).append(name)
    if args.name and chosen:
        print_report(recipe_report(chosen[0], users[args.name]), args)
    else:
        print_report(recipe_list(chosen, users), args)
