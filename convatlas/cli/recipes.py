"""`convatlas recipes`: how each network is trained, and what its paper says comes of it."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, fields
from typing import Any

from ..recipe import LADDERS, Recipe
from ..recipes import find_recipe, recipes
from ..tables import index
from .output import print_json, print_table

ALWAYS = ("optimizer", "momentum", "weight_decay", "schedule")  # told even where they are what most have
HELP = "the training recipes: source, schedule, published result, departures from the paper"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="RECIPE", help="one recipe, every field of it (default: all, a line each)"
    )
    parser.add_argument("--ladder", choices=LADDERS, help="only those of this ladder")
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
            ("recipe", "ladder", "optimizer", "schedule", "published", "epochs", "batch", "rate", "networks"),
            ((*words(r), str(r.epochs), f"{r.batch:,}", f"{r.lr:g}", str(len(users[r.name]))) for r in chosen),
            left=5,
        )
        print(
            f"{len(chosen)} recipes. `convatlas recipes NAME` prints one, with its paper's result and the departures."
        )


def words(recipe: Recipe) -> tuple[str, ...]:
    return recipe.name, recipe.ladder, recipe.optimizer, recipe.schedule, short(recipe.published)


def print_one(recipe: Recipe, networks: list[str]) -> None:
    """What the recipe says, field by field, but for what every recipe says unless told otherwise."""
    print(f"{recipe.name}: {recipe.source}")
    print(f"published: {recipe.published or 'nothing'}")
    for departure in recipe.departures or ("none",):
        print(f"departure: {departure}")
    shown = ", ".join(networks[:6]) + (f" and {len(networks) - 6} more" if len(networks) > 6 else "")
    print(f"networks: {shown or 'none by default; --recipe takes it'}")
    said = ("name", "source", "published", "departures")
    print_table(
        ("field", "value"),
        ((f.name, text(getattr(recipe, f.name))) for f in fields(recipe) if f.name not in said and tells(recipe, f)),
        left=2,
    )


def tells(recipe: Recipe, field: Any) -> bool:
    return field.name in ALWAYS or field.default is MISSING or getattr(recipe, field.name) != field.default


def short(words: str, limit: int = 60) -> str:
    """So much of the text, cut between words."""
    return words if len(words) <= limit else words[:limit].rpartition(" ")[0].rstrip(",;") + " ..."


def text(value: Any) -> str:
    """As `--set` takes it."""
    if isinstance(value, tuple):
        return ",".join("=".join(map(str, v)) if isinstance(v, tuple) else text(v) for v in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
