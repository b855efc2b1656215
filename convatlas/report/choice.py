"""A choice for people: the pick, the Pareto set, and what keeps each other network from being picked."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from ..choice.certificate import Judged
from ..choice.choose import Choice
from ..choice.facts import Fact
from .choice_words import amount, asked, limit_text, machine, picked, ranked, spanned, summary, why
from .tables import Column, Report, Table, label, number, prose, size

FACT_KEYS = ("network", "source", "dataset", "kind", "top1", "top5", "single", "protocol", "weights", "where")
REFUSED_SHOWN = 5
SEVERAL_SETS = {"imagenetv2": "V2", "imagenet-real": "ReaL"}  # timm's other images of the same classes


def report(choice: Choice, known: Iterable[Fact] = (), *, whole: bool = False, picture: str = "") -> Report:
    """The Pareto set as a table; with `whole` also every refused network. CSV and JSON always have all.

    Markdown shows the `picture`, a file.
    """
    certificate = choice.certificate
    others = [name for name in certificate.judged if name not in certificate.pareto]
    others.sort(key=lambda name: (certificate.judged[name].distance, name))
    if not whole:
        refused = [name for name in others if certificate.judged[name].status != "fits"]
        first = [*certificate.better_undecided, *certificate.nearest, *(it.admits for it in certificate.loosened)]
        others = list(dict.fromkeys((*first, *refused)))[: max(REFUSED_SHOWN, len(certificate.better_undecided))]
    heading = asked(choice.request)
    more: list[str | Table] = [] if whole else ["--why shows every network, --json the whole certificate."]
    if choice.pick or choice.scaled:
        more += ["", commands_table(choice)]
    if whole or choice.engines:
        more += ["", f"On {machine(choice)}"]
    return Report(
        table_of(choice, certificate.pareto, known),
        before=(
            "\n".join((f"{heading[0].upper()}{heading[1:]}:", *picked(choice))),
            "",
            *((f"![accuracy against cost]({picture})", "") if picture else ()),
        ),
        after=(
            *yours_of(choice),
            *scaled_of(choice),
            "\n".join(["", *summary(choice)]),
            "",
            refusals(choice, others),
            *more,
        ),
        record={**choice.to_json(), "commands": [{"to": to, "command": it} for to, it in commands(choice)]},
        data=flat(choice),
    )


def table_of(choice: Choice, names: Sequence[str], known: Iterable[Fact] = ()) -> Table:
    """Networks with their values of what was asked; of timm's files, the accuracies on other images beside."""
    certificate = choice.certificate
    shown = list(dict.fromkeys((*certificate.indices, *(bound.quantity for bound in certificate.bounds))))
    others = on_other_images(known)
    beside = [name for name in SEVERAL_SETS if others[name]]
    columns = (
        label("network", "name"),
        *(Column(HEADS.get(name, name), name, right=True, drop=drop(name, i)) for i, name in enumerate(shown)),
        *(number(SEVERAL_SETS[name], name, show=points, short=None, drop=1) for name in beside),
        label("", "picked"),
    )
    rows = [
        (
            name,
            *(cell(certificate.judged[name], quantity) for quantity in shown),
            *(others[dataset].get(measurement(certificate.judged[name].candidate.fact)) for dataset in beside),
            "pick" if name == certificate.pick else "",
        )
        for name in names
    ]
    return Table("pareto", columns, rows)


def measurement(fact: Fact) -> tuple[str, str]:
    """What figures on several sets of images have in common: the weights, the image size and the crop."""
    return fact.name, fact.where.partition(", ")[2]


def on_other_images(known: Iterable[Fact]) -> dict[str, dict[tuple[str, str], float | None]]:
    """Top-1 on each of SEVERAL_SETS, by measurement."""
    found: dict[str, dict[tuple[str, str], float | None]] = {name: {} for name in SEVERAL_SETS}
    for fact in known:
        if fact.dataset in found:
            found[fact.dataset][measurement(fact)] = fact.top1
    return found


HEADS = {"top1": "top-1", "top5": "top-5", "yours": "your top-1", "macs": "MACs", "training_macs": "training MACs"}


def drop(name: str, place: int) -> int:
    """Indices after the first three may be left out of a narrow table, the last one first."""
    return max(0, place - 2)


def cell(it: Judged, quantity: str) -> str | None:
    of = it.candidate.values.get(quantity)
    return None if of is None else amount(quantity, of.value)


def refusals(choice: Choice, names: Sequence[str]) -> Table:
    columns = (label("not picked", "name"), prose("because", least=30))
    rows = [(name, why(choice.certificate, choice.certificate.judged[name])) for name in names]
    return Table("refused", columns, rows)


def flat(choice: Choice) -> Table:
    """A row for each candidate: its fact, its values, and what keeps it from being picked."""
    certificate = choice.certificate
    quantities = list(dict.fromkeys(name for it in certificate.judged.values() for name in it.candidate.values))
    quantities = [name for name in quantities if name not in FACT_KEYS]
    rows = []
    for name, it in certificate.judged.items():
        values = {quantity: of and of.value for quantity, of in it.candidate.values.items()}
        rows.append(
            (
                name,
                *(getattr(it.candidate.fact, key) for key in FACT_KEYS),
                *(values.get(quantity) for quantity in quantities),
                it.status,
                name in certificate.pareto,
                certificate.dominators.get(name),
                why(certificate, it),
            )
        )
    keys = ("name", *FACT_KEYS, *quantities, "status", "pareto", "dominated_by", "why")
    return Table("candidates", tuple(map(label, keys)), rows)


def yours_of(choice: Choice) -> list[str | Table]:
    """What the finalists are worth on the user's images; nothing where that was not asked."""
    return ["\n".join(["", *ranked(choice)]), "", ranking_table(choice)] if choice.yours else []


def ranking_table(choice: Choice) -> Table:
    ranks = choice.yours.ranks if choice.yours else ()
    columns = (
        label("on your images", "name"),
        number("top-1", "top1", show=points, short=None),
        label("95% interval", "interval"),
        number("behind", "behind", show=points, short=None),
        label("95% interval", "behind_interval"),
    )
    rows = [
        (
            it.name,
            it.top1,
            f"{it.low:.2f} to {it.high:.2f}",
            *((it.behind, f"{it.behind_low:.2f} to {it.behind_high:.2f}") if it is not ranks[0] else (None, None)),
        )
        for it in ranks
    ]
    return Table("ranking", columns, rows)


def points(value: float) -> str:
    return f"{value:.2f}"


def scaled_of(choice: Choice) -> list[str | Table]:
    """The largest networks between the published points; nothing where they were not asked."""
    if choice.request.scaled is None:
        return []
    told = (
        "Between the published points, the largest that fits; how accurate nobody has measured, so that no limit on it"
    )
    return [f"\n{told} is judged:", "", scaled_table(choice)]


def scaled_table(choice: Choice) -> Table:
    asked = list(dict.fromkeys(name for it in choice.scaled for name in it.values))
    columns = (
        label("network", "network"),
        label("with", "options"),
        label("image", "input"),
        *(Column(HEADS.get(name, name), name, right=True, drop=drop(name, i)) for i, name in enumerate(asked)),
        label("top-1", "top1"),
        prose("searched", least=24, drop=9),
    )
    rows = []
    for it in choice.scaled:
        if it.point is None:
            first = f"none: {limit_text(it.broken)}" if it.broken else "none"
            rows.append((it.family.network, first, "", *("" for _ in asked), "", str(it.family)))
        else:
            options = ", ".join(f"{name}={value:g}" for name, value in it.point.options.items())
            values = [spanned(name, of) if (of := it.values.get(name)) else "" for name in asked]
            rows.append((it.family.network, options, size(it.point.input), *values, "unknown", str(it.family)))
    return Table("scaled", columns, rows)


def scaled_commands(choice: Choice) -> list[tuple[str, str]]:
    """How to count each of the scaled networks."""
    return [(it.family.network, f"convatlas show {it.point.settings}") for it in choice.scaled if it.point]


def commands_table(choice: Choice) -> Table:
    rows = [*commands(choice), *((f"show {name}", command) for name, command in scaled_commands(choice))]
    return Table("commands", (label("to"), prose("command", least=40)), rows)


def commands(choice: Choice) -> list[tuple[str, str]]:
    """What to do with the pick, and the command that does it."""
    pick = choice.pick
    if pick is None:
        return []
    network, weights = pick.fact.network, choice.weights
    data = shlex.quote(choice.request.data or "DATA")
    engine = choice.engines.get(network, "onnxruntime")
    batch = "" if choice.request.batch == 1 else f" --batch {choice.request.batch}"
    measure = f"convatlas measure {shlex.quote(weights or network)} --engine {engine}{batch}"
    if not weights:
        return [
            ("train", f"convatlas train {network} --data {data}"),
            ("measure", measure),
            ("export", f"convatlas export {network} --untrained --to onnx -o net.onnx"),
        ]
    name = shlex.quote(weights)
    return [
        ("load", f"convatlas weights {'get' if '@' in weights else 'check'} {name}"),
        ("transfer", f"convatlas transfer {name} --data {data}"),
        ("measure", measure),
        ("export", f"convatlas export {name} --to onnx -o net.onnx"),
    ]


def facts_report(facts: Sequence[Fact], dataset: str) -> Report:
    """Every figure on a data set, whatever its protocol."""
    others = on_other_images(facts)
    beside = [name for name in SEVERAL_SETS if others[name] and name != dataset]
    columns = (
        label("figure", "name"),
        number("top-1", "top1", short=None),
        number("top-5", "top5", short=None),
        *(number(SEVERAL_SETS[name], name, show=points, short=None) for name in beside),
        label("by", "kind", drop=2),
        prose("protocol", least=16),
        prose("from", "where", least=20, drop=1),
    )
    chosen = [fact for fact in facts if fact.dataset == dataset]
    rows = [
        (
            *(fact.name, fact.top1, fact.top5),
            *(others[name].get(measurement(fact)) for name in beside),
            *(fact.kind, fact.protocol + ("" if fact.single else ", several models"), fact.where),
        )
        for fact in chosen
    ]
    data: list[tuple[Any, ...]] = [tuple(fact.to_json().values()) for fact in chosen]
    keys = tuple(Fact.__dataclass_fields__)
    return Report(
        Table("facts", columns, rows),
        after=(f"{len(rows)} figures on {dataset}, in percent. `choose` compares those of one centre crop (center).",),
        record={"dataset": dataset, "facts": [fact.to_json() for fact in chosen]},
        data=Table("facts", tuple(map(label, ("name", *keys))), data),
    )
