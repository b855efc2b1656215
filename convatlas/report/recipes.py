"""Reports on recipes: the list, and one recipe with all its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from ..recipe import Recipe
from ..recipe.components import KINDS
from ..recipe.settings import settings_of, shown
from .tables import Report, Table, label, number, prose

ALWAYS = ("momentum", "weight_decay")  # printed even if they are zero or have their default
USERS = 6  # at most so many networks are named


def recipe_list(recipes: Sequence[Recipe], users: Mapping[str, Sequence[str]]) -> Report:
    """One recipe per line. `users` has the networks that use each by default."""
    columns = (
        label("recipe"),
        label("ladder", drop=4),
        label("optimizer"),
        label("schedule"),
        prose("published"),
        number("epochs", drop=2),
        number("batch", drop=3),
        number("lr", drop=1, show=shown, short=None),
        number("networks", drop=5),
    )
    rows = [
        (
            r.name, r.ladder, r.optimizer.kind, r.schedule.kind, r.published,
            r.epochs, r.batch, r.optimizer.lr, len(users[r.name]),
        )
        for r in recipes
    ]  # fmt: skip
    hint = f"{len(rows)} recipes. `convatlas recipes NAME` prints one, with its paper's result and departures."
    return Report(Table("recipes", columns, rows), after=(hint,), record=recipe_record(recipes, users))


def recipe_report(recipe: Recipe, users: Sequence[str]) -> Report:
    """A recipe with its source, published result, departures and networks, and its settings."""
    named = ", ".join(users[:USERS]) + (f" and {len(users) - USERS} more" if len(users) > USERS else "")
    before = (
        f"{recipe.name}: {recipe.source}",
        f"published: {recipe.published or 'nothing'}",
        *(f"departure: {departure}" for departure in recipe.departures or ("none",)),
        f"networks: {named or f'none by default; train with --recipe {recipe.name}'}",
    )
    table = Table("settings", (label("setting"), label("value")), list(setting_rows(recipe)))
    return Report(table, before=before, record=recipe_record([recipe], {recipe.name: users}))


def setting_rows(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Each setting, by its `--set` name, and its value; settings that few recipes change only if they differ."""
    usual: dict[str, Any] = {f.name: f.default for f in fields(recipe)} | dict.fromkeys(KINDS, "none")
    usual |= {f.name: f.default for f in fields(recipe.optimizer) if f.name not in ALWAYS}
    for name, value in settings_of(recipe).items():
        if usual.get(name, MISSING) != value and name != value:  # "ema.decay" implies "ema"
            yield name, shown(value)


def recipe_record(recipes: Sequence[Recipe], users: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {"recipes": [recipe.to_json() | {"networks": list(users[recipe.name])} for recipe in recipes]}
