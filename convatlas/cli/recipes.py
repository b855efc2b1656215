"""`convatlas recipes`: how each network is trained, and the result that its paper prints."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import MISSING, fields

from ..recipe import LADDERS, Recipe
from ..recipe.components import KINDS
from ..recipe.settings import OWN, settings_of, shown
from ..recipes import find_recipe, recipes
from ..tables import index
from .output import print_json, print_table

ALWAYS = ("epochs", "batch", "optimizer", "lr", "momentum", "weight_decay", "schedule")  # even at their defaults
HELP = "the training recipes: source, schedule, published result, departures from the paper"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="RECIPE", help="one recipe with its settings (default: all, one a line)"
    )
    parser.add_argument("--ladder", choices=LADDERS, help="only the recipes of this ladder")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> None:
    chosen = [find_recipe(args.name)] if args.name else list(recipes().values())
    chosen = [recipe for recipe in chosen if args.ladder in (None, recipe.ladder)]
    users: dict[str, list[str]] = {recipe.name: [] for recipe in chosen}
    for name, record in index().items():
        users.get(record["recipe"], []).append(name)
    if args.json:
        print_json({"recipes": [recipe.to_json() | {"networks": users[recipe.name]} for recipe in chosen]})
    elif args.name:
        print_one(chosen[0], users[args.name])
    else:
        print_table(
            ("recipe", "ladder", "optimizer", "schedule", "published", "epochs", "batch", "lr", "networks"),
            ((*words(r), *numbers(r), str(len(users[r.name]))) for r in chosen),
            left=5,
        )
        print(f"{len(chosen)} recipes. `convatlas recipes NAME` prints one, with its paper's result and departures.")


def words(recipe: Recipe) -> tuple[str, ...]:
    return recipe.name, recipe.ladder, recipe.optimizer.kind, recipe.schedule.kind, short(recipe.published)


def numbers(recipe: Recipe) -> tuple[str, ...]:
    return str(recipe.epochs), f"{recipe.batch:,}", f"{recipe.optimizer.lr:g}"


def print_one(recipe: Recipe, networks: list[str]) -> None:
    """What the recipe says, setting by setting, leaving out most defaults."""
    print(f"{recipe.name}: {recipe.source}")
    print(f"published: {recipe.published or 'nothing'}")
    for departure in recipe.departures or ("none",):
        print(f"departure: {departure}")
    first = ", ".join(networks[:6]) + (f" and {len(networks) - 6} more" if len(networks) > 6 else "")
    print(f"networks: {first or f'none by default; train with --recipe {recipe.name}'}")
    print_table(("setting", "value"), rows(recipe), left=2)


def rows(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Each setting by the name that `--set` takes and its value, but for defaults; "ema.decay" implies "ema"."""
    usual = {f.name: f.default for f in fields(Recipe) if f.name in OWN} | dict.fromkeys(KINDS, "none")
    for part in KINDS:
        if (own := getattr(recipe, part)) is not None:
            usual |= {own.PREFIX + f.name: f.default for f in fields(own)}
    for name, value in settings_of(recipe).items():
        if (name in ALWAYS or usual.get(name, MISSING) != value) and name != value:
            yield name, shown(value)


def short(words: str, limit: int = 60) -> str:
    """As much of the text as fits, cut between words."""
    return words if len(words) <= limit else words[:limit].rpartition(" ")[0].rstrip(",;") + " ..."
