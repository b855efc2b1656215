"""The names that `--set` takes, their current values, and recipes with some of them changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields, replace
from typing import Any

from ..checked import frozen, hints, parse, required, words
from ..errors import UserError, unknown
from ..files.plain import from_json
from .components import KINDS, Component, Warmup, ends_of
from .recipe import Recipe

OWN = (
    "epochs",
    "batch",
    "augment",
    "whiten",
    "label_smoothing",
    "balance",
    "aux_weight",
    "init",
)  # the recipe's own fields
ABSENT = object()


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe's settings, by the names that `--set` takes: {"lr": 0.1, "schedule": "step", "warmup.epochs": 5, ...}.

    A component's name gives its kind ("none" if absent), followed by its fields: the optimizer's and the schedule's by
    plain names, others dotted. "net.dropout" is an option of the network's constructor.
    """
    found: dict[str, Any] = {name: getattr(recipe, name) for name in ("epochs", "batch")}
    for part in KINDS:
        own: Component | None = getattr(recipe, part)
        found[part] = own.kind if own else "none"
        if own:
            fields_of = {own.PREFIX + name: getattr(own, name) for name in hints(type(own))}
            found |= {name: value for name, value in fields_of.items() if value is not None}
    found |= {name: getattr(recipe, name) for name in OWN if name not in found}
    return found | {f"net.{name}": value for name, value in recipe.net}


def with_settings(recipe: Recipe, changes: Iterable[str]) -> Recipe:
    """The recipe with settings changed, as `--set` gives them; each is recorded as a departure.

    "lr=0.05", "milestones=30,60", "augment=pad_crop,flip", "augment=" (none), "nesterov=true", "net.dropout=0.3".
    "schedule=cosine" swaps a component: the new one keeps the settings that both have. Swaps come first, whatever the
    order; the last of two values for one name wins. Raises UserError for an unknown setting, with near names.
    """
    given: dict[str, str] = {}
    for change in changes:
        name, equals, text = (part.strip() for part in change.partition("="))
        if not equals:
            raise UserError(f"--set {change} gives no value", f"write --set {change}=VALUE")
        given[name] = text
    parts = {part: changed(part, getattr(recipe, part), given) for part in KINDS}
    legal = [*OWN, *KINDS, *(n for part, own in parts.items() if own or part not in given for n in names(part, own))]
    values: dict[str, Any] = dict(parts)
    net = dict(recipe.net)
    for name, text in given.items():
        if name.startswith("net."):
            net[name.removeprefix("net.")] = literal(text)
        elif name in OWN:
            values[name] = read(name, text, hints(Recipe)[name], getattr(recipe, name))
        elif name not in legal:
            raise no_setting(name, parts, legal)
    made = replace(recipe, **values, net=tuple(net.items()))
    return replace(made, departures=(*recipe.departures, *departures(settings_of(recipe), settings_of(made), given)))


def changed(part: str, now: Component | None, given: dict[str, str]) -> Component | None:
    """A part of the recipe with the settings that belong to it, or another component if one is named."""
    kind = given.get(part, now.kind if now else "none")
    if part not in given and any(name in given for name in names(part, now)):
        kind = now.kind if now else part  # ema.decay=0.999 alone is enough
    optional = part not in ("optimizer", "schedule")
    if kind == "none" and optional:
        return None
    if kind not in KINDS[part] and part in KINDS[part]:
        raise UserError(f"{part}={kind} is neither {part} nor none", f"write --set {names(part, now)[0]}={kind}")
    if kind not in KINDS[part]:
        raise unknown(part, kind, [*KINDS[part], *(["none"] if optional else [])])
    cls = KINDS[part][kind]
    values = kept(cls, now)
    texts = {name: given[cls.PREFIX + name] for name in hints(cls) if cls.PREFIX + name in given}
    if issubclass(cls, Warmup) and (ends := set(ends_of(cls))) & texts.keys():
        values = {name: value for name, value in values.items() if name not in ends}  # replaced by the new end
    for name, text in texts.items():
        values[name] = read(cls.PREFIX + name, text, hints(cls)[name], getattr(now, name, None))
    if missing := [f"--set {cls.PREFIX}{name}=..." for name in required(cls) if name not in values]:
        raise UserError(f"{part}={kind} needs more settings", f"add {' '.join(missing)}")
    return cls(**values)


def names(part: str, own: Component | None) -> list[str]:
    """The current settings of a part of the recipe: of its component, or of the only kind that there is."""
    cls = type(own) if own else KINDS[part].get(part)  # "ema" and "lookahead" are fields and kinds
    return [cls.PREFIX + name for name in hints(cls)] if cls else []


def kept(cls: type[Component], now: Component | None) -> dict[str, Any]:
    """What the current component shares with one of that class: the learning rate, and fields with the same default.

    A field with another default (epsilon), or none (an exponential schedule's gamma), has another meaning there.
    """
    if now is None:
        return {}
    if type(now) is cls:
        return {name: getattr(now, name) for name in hints(cls)}
    usual = {f.name: f.default for f in fields(now) if f.default is not MISSING}
    common = {f.name for f in fields(cls) if f.name == "lr" or usual.get(f.name, MISSING) == f.default}
    return {name: getattr(now, name) for name in common if hasattr(now, name)}


def read(name: str, text: str, hint: Any, now: Any) -> Any:
    try:
        return parse(text, hint)
    except ValueError as error:
        remedy = f"{name} is now {shown(now)}" if now is not None else f"give {words(hint)}"
        raise UserError(f"{name}={text[:40]!r} is not {words(hint)}", remedy) from error


def no_setting(name: str, parts: dict[str, Component | None], legal: Iterable[str]) -> UserError:
    """The error for a name that this recipe does not have: another component's, or unknown."""
    absent: list[str] = []
    for part, kinds in KINDS.items():
        now = parts[part]
        fields_of = {kind: [cls.PREFIX + field for field in hints(cls)] for kind, cls in kinds.items()}
        if having := [kind for kind, own in fields_of.items() if name in own]:
            what = f"{name} belongs to {part}={' or '.join(having)}"
            return UserError(f"{what}, but {part} is {now.kind if now else 'none'}", f"add --set {part}={having[0]}")
        if now is None:
            absent += [field for own in fields_of.values() for field in own]
    return unknown("setting", name, dict.fromkeys([*legal, *absent]))


def departures(was: dict[str, Any], now: dict[str, Any], given: dict[str, str]) -> list[str]:
    """The changes in words: "lr 0.05, not 0.1"; "cosine schedule, not step"."""
    found = []
    for name, value in now.items():
        before = was.get(name, ABSENT)
        if value == before:
            continue
        if name in KINDS:
            found += swapped(name, before, value)
        elif before is not ABSENT:
            found.append(f"{spelt(name)} {shown(value)}, not {shown(before)}")
        elif name.startswith("net."):
            found.append(f"{name} {shown(value)}, not the network's own")
        elif name in given:
            found.append(f"{spelt(name)} {shown(value)}")
    return found


def swapped(part: str, was: str, now: str) -> list[str]:
    if part in KINDS[part]:  # an average of the weights: there is only one kind
        return [f"no {part}"] if now == "none" else []
    return [f"{'no' if now == 'none' else now} {spelt(part)}, not {was}"]


def spelt(name: str) -> str:
    """A setting's name in words."""
    return name if name.startswith("net.") else name.replace("warmup", "warm-up").replace("_", " ").replace(".", " ")


def shown(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, tuple):
        return ",".join(map(shown, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def literal(text: str) -> Any:
    """The text parsed as JSON; the text itself if it is not JSON."""
    try:
        return frozen(from_json(text))
    except ValueError:
        return text
