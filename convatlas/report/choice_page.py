"""A choice as one self-contained HTML page: the pick, the picture, the machine, and what keeps others from it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from ..choice.choose import Choice
from ..choice.facts import Fact
from .choice import commands_table, ranking_table, refusals, scaled_table, table_of
from .choice_picture import as_url
from .choice_words import amount, asked, machine, picked, ranked, summary
from .templates import render


def html(choice: Choice, known: Iterable[Fact] = ()) -> str:
    """One file without scripts or references to other files, in the reader's light or dark mode."""
    certificate, pick = choice.certificate, choice.pick
    heading = asked(choice.request)
    words = list(picked(choice))
    refused = [name for name, it in certificate.judged.items() if it.status == "refused"]
    refused.sort(key=lambda name: (certificate.judged[name].distance, name))
    dominated = sorted((name for name, by in certificate.dominators.items() if by), key=certificate.key)
    return render(
        "choice.html",
        heading=f"{heading[0].upper()}{heading[1:]}",
        pick=pick.name if pick else "",
        figures=[
            (
                name,
                amount(name, of.value),
                of.how + ("" if of.low == of.high else f", {amount(name, of.low)} to {amount(name, of.high)}"),
            )
            for name in certificate.indices
            if pick and (of := pick.values.get(name)) is not None
        ],
        words=coded(words[1:] if pick else words),
        picture=as_url(choice),
        pareto=table_of(choice, certificate.pareto, known),
        yours=coded(ranked(choice)),
        ranking=ranking_table(choice),
        scaled=scaled_table(choice),
        summary=coded(summary(choice)),
        undecided=refusals(choice, certificate.of_status("undecided")),
        dominated=refusals(choice, dominated),
        refused=refusals(choice, refused),
        unknown=choice.unknown,
        commands=commands_table(choice),
        machine=machine(choice),
    )


def coded(lines: Iterable[str]) -> list[str]:
    """Lines as HTML; what stands in backticks is code."""
    return [re.sub("`(.+?)`", r"<code>\1</code>", escape(line.strip())) for line in lines]
