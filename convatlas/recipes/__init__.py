"""The papers' training recipes, one file per family of networks; `find_recipe` finds one by name."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

from ..errors import unknown
from ..recipe import Recipe

WITHOUT = {  # family: why its networks have no recipe of their own
    "chain": "CS231n's notes give a grammar of networks and train none of them",
    "enet_encoder": "its paper trains it for segmentation; Canziani et al. do not say how they trained the classifier",
}


@cache
def recipes() -> dict[str, Recipe]:
    """Every recipe by name."""
    found: dict[str, Recipe] = {}
    for file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        for recipe in import_module(f".{file.stem}", __package__).RECIPES:
            assert recipe.name not in found, f"two recipes are named {recipe.name}"
            found[recipe.name] = recipe
    return found


def find_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises UserError with near names."""
    if name not in recipes():
        raise unknown("recipe", name, recipes())
    return recipes()[name]
