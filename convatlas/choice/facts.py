"""How accurate networks are, and who says so: one record for each network, data set, source and protocol.

A figure is named NETWORK@SOURCE, and never by the network alone: ResNet-50's is 75.3% in its paper, and 80.9% in a
library that trained it for longer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..tables import index
from ..tables.published import DATASETS, NOT_STATED, SEVERAL, SEVERAL_MODELS, accuracy, crop_protocol, words
from ..weights.published import published

Kind = Literal["paper", "library", "measured"]
Protocols = Literal["center", "unstated", "any"]
CENTER = "center"
TOP5 = ("top5_err", "top5_acc")
OF_A_PAPER = re.compile(r"(tables?|fig(ure|\.)|sections?) ", re.IGNORECASE)
CITED = re.compile(r"(?:\(|^)(\w+)(?: et al\.| and \w+)? ?,? ?\(?(\d{4})\)")
ROUNDED = 0.06  # a figure may be printed with one decimal in one place, and with three in another


@dataclass(frozen=True)
class Fact:
    """Accuracies in percent, as exact as they are printed or measured."""

    network: str
    source: str  # paper, torchvision, timm/a1_in1k, measured/..., he2016
    dataset: str
    kind: Kind
    top1: float | None
    top5: float | None
    single: bool  # one model, not the average of several
    protocol: str  # center: one centre crop (of small images, the whole image) at the network's input size; or in words
    where: str  # what prints it
    weights: str  # the MODEL that has this accuracy; empty where none is known
    origin: str  # of the weights
    images: int | None = None  # of a measured one, as the next two
    low: float | None = None  # of the 95% interval of top1
    high: float | None = None

    @property
    def name(self) -> str:
        return f"{self.network}@{self.source}"

    def enters(self, protocols: Protocols) -> bool:
        """Whether the figure may stand beside others: that of a single model on one centre crop, unless asked."""
        stated = {"center": self.protocol == CENTER, "unstated": self.protocol in (CENTER, NOT_STATED), "any": True}
        return self.single and stated[protocols]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}


def facts(results: Iterable[Fact] = ()) -> list[Fact]:
    """All that is known: what papers claim, what libraries publish of their weights, and the facts of results files.

    A library's figure that the catalogue claims as well is told once, with its weights.
    """
    library = of_libraries()
    told = defaultdict(list)
    for fact in library:
        told[fact.network, fact.source.partition("/")[0]].append(fact.top1)
    claimed = [
        fact
        for entry in index().values()
        for fact in of_claims(entry)
        if not any(near(fact.top1, top1) for top1 in told.get((fact.network, fact.source), ()))
    ]
    return [*claimed, *library, *results]


def near(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) < ROUNDED


def of_claims(entry: Mapping[str, Any]) -> list[Fact]:
    """The accuracies among the claims of an index entry."""
    return [
        fact
        for dataset, names in DATASETS.items()
        for claim in entry["claims"]
        if claim["what"] in (*names, *(TOP5 if dataset == "imagenet" else ()))
        for fact in of_claim(entry, dataset, claim)
    ]


def of_claim(entry: Mapping[str, Any], dataset: str, claim: Mapping[str, str]) -> list[Fact]:
    """A claim's fact: a top-5 that stands beside a top-1 is part of that one's."""
    where, value = claim["where"], accuracy(claim)
    beside = [c for c in entry["claims"] if c["where"] == where and (c["what"] in TOP5) != (claim["what"] in TOP5)]
    top5 = claim["what"] in TOP5
    if value is None or (top5 and any(c["what"] in DATASETS[dataset] and accuracy(c) is not None for c in beside)):
        return []
    other = next((accuracy(c) for c in beside if not top5 and dataset == "imagenet" and c["what"] in TOP5), None)
    source = source_of(where)
    return [
        Fact(
            network=entry["name"],
            source=source,
            dataset=dataset,
            kind="paper",
            top1=None if top5 else float(value),
            top5=float(value) if top5 else None if other is None else float(other),
            single=not SEVERAL_MODELS.search(where),
            protocol=protocol_of(where, dataset, max(entry["input"][1:])),
            where=where,
            weights="",
            origin="the paper's own training" if source == "paper" else f"as {source} tells",
        )
    ]


def protocol_of(where: str, dataset: str, side: int) -> str:
    if dataset == "imagenet":
        return crop_protocol(where, side) or CENTER
    return ", ".join(words(where)) if SEVERAL.search(where) else CENTER


def source_of(where: str) -> str:
    """Who prints a claim: "Table 2, single crop 224" is the paper's, others have a name for it.

    >>> source_of("Identity Mappings (He et al., 2016), Table 5"), source_of("fb.resnet.torch README, single crop 224")
    ('he2016', 'fb.resnet.torch')
    """
    if OF_A_PAPER.match(where):
        return "paper"
    if cited := CITED.search(where):
        return f"{cited[1]}{cited[2]}".lower()
    first = re.split(r",|: ", where)[0].lower()
    for name in ("torchvision", "timm", "tf-slim"):
        if first.startswith(name):
            return "slim" if name == "tf-slim" else name
    short = re.sub(r"\breadme\b.*", "", first).strip() or "readme"
    return re.sub(r"[^\w./-]+", "-", short)


def of_libraries() -> list[Fact]:
    """What the sources of published weights say of them."""
    found = []
    for row in published().values():
        if row.top1:
            side = max(row.preprocess.input[1:])
            own = side == max(index()[row.network]["input"][1:])
            protocol = (row.protocol or NOT_STATED) if own else f"single crop {side}"
            found.append(
                Fact(
                    network=row.network,
                    source=f"{row.source}/{row.tag}" if row.tag else row.source,
                    dataset=row.classes.removesuffix("_background"),
                    kind="library",
                    top1=float(row.top1),
                    top5=float(row.top5) if row.top5 else None,
                    single=True,
                    protocol=protocol,
                    where=f"{row.source}, of {row.file}",
                    weights=row.name,
                    origin=f"published by {row.source}" + (f", {row.licence}" if row.licence else ""),
                )
            )
    return found


def entering(known: Iterable[Fact], dataset: str, protocols: Protocols = "center") -> list[Fact]:
    """The figures that may stand side by side in a choice on a data set, one a name.

    Of several of one name on ImageNet it is the first, which sources print first; elsewhere the most accurate.
    """
    found: dict[str, Fact] = {}
    order = sorted(
        (fact for fact in known if fact.dataset == dataset and fact.enters(protocols)),
        key=lambda fact: (fact.protocol != CENTER, 0.0 if dataset == "imagenet" else -(fact.top1 or 0.0)),
    )
    for fact in order:
        found.setdefault(fact.name, fact)
    return sorted(found.values(), key=lambda fact: list(index()).index(fact.network))
