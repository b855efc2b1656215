"""The published accuracy of each network, one figure per data set, with its evaluation protocol."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from ..data.names import class_names, outputs_of
from ..errors import unknown
from ..protocols import Protocol

DATASETS: dict[str, tuple[str, ...]] = {  # what claims call the top-1 figure
    "imagenet": ("top1_err", "top1_acc"),
    "cifar10": ("cifar10_err",),
    "cifar100": ("cifar100_err",),
    "svhn": ("svhn_err",),
    "mnist": ("mnist_err", "mnist_test_err"),
}
SOURCE = re.compile(  # the parts of a claim's `where` that name its source, and ImageNet's evaluation set
    r"tables? |fig(ure|\.)|sections? |.*readme|.* \(.*\d{4}\)$|.*zoo$|torchvision |timm |tf-slim|ILSVRC-2012 val$"
    r"|IMAGENET1K_V1|1 (model|network)(\(s\))?$|(\(a\)|1 network \(a\))$",
    re.IGNORECASE,
)
ONE_CROP = re.compile(r"(?:single crop|centre crop|1 crop)(?:\(s\))?(?: (\d+))?")
SEVERAL = re.compile(
    r"\b([2-9]|\d\d+)[- ](crops?|models?|networks?|views)\b|multi-crop|dense|scale|pre-trained|2010|best "
)

SEVERAL_MODELS = re.compile(r"\b([2-9]|\d\d+) (models?|networks?)\b|with \d|pre-trained|best ")
NOT_STATED = "not stated"


class Published(NamedTuple):
    """Accuracies in percent, to the digits printed."""

    top1: Decimal
    top5: Decimal | None
    usual: bool  # a single model on the whole image; on ImageNet, on one centre crop at the network's input size
    protocol: str  # details from the source: other crops, or on small images how the network was trained
    where: str


def published(record: Mapping[str, Any], dataset: str = "imagenet") -> Published | None:
    """The most comparable figure of an index entry: by the usual protocol if there is one; otherwise, on ImageNet, one
    without a stated protocol.

    Among several, ImageNet's is the first that the catalogue lists and another set's is the most accurate. None where
    no source prints one. Raises UserError for an unknown data set.
    """
    if dataset not in DATASETS:
        raise unknown("data set", dataset, DATASETS)
    side = max(record["input"][1:])
    found = []
    for claim in record["claims"]:
        value = accuracy(claim) if claim["what"] in DATASETS[dataset] else None
        if value is not None and dataset == "imagenet":
            protocol = crop_protocol(claim["where"], side)
            found.append(Published(value, _top5(record["claims"], claim), not protocol, protocol, claim["where"]))
        elif value is not None:
            usual = not SEVERAL.search(claim["where"])
            found.append(Published(value, None, usual, ", ".join(words(claim["where"])), claim["where"]))
    if dataset == "imagenet":
        return min(found, key=lambda p: (not p.usual, p.protocol != NOT_STATED), default=None)
    return min(found, key=lambda p: (not p.usual, -p.top1), default=None)


def by_protocol(record: Mapping[str, Any], dataset: str, protocol: Protocol) -> list[Published]:
    """What the sources print of a single model by a protocol, as an index entry has it; of `center` on other sets than
    ImageNet, the figure that `published` chooses."""
    if dataset != "imagenet":
        found = published(record, dataset) if protocol.name == "center" else None
        return [found] if found else []
    return [
        Published(value, _top5(record["claims"], claim), protocol.name == "center", protocol.name, claim["where"])
        for claim in record["claims"]
        if claim["what"] in DATASETS[dataset]
        and re.search(protocol.printed, claim["where"])
        and not SEVERAL_MODELS.search(claim["where"])
        and (value := accuracy(claim)) is not None
    ]


def dataset_of(name: str, classes: Sequence[str]) -> str | None:
    """The data set of DATASETS that has this name or these classes; None for another."""
    if name in DATASETS:
        return name
    for dataset in ("imagenet", "cifar10"):  # MNIST's are also those of other digits
        known = class_names(dataset)
        if len(classes) == len(known) and set(outputs_of(classes, known)) == set(range(len(known))):
            return dataset
    return None


def accuracy(claim: Mapping[str, str]) -> Decimal | None:
    """In percent; None for a figure that is not printed as a number ("about 9")."""
    if not re.fullmatch(r"\d+(\.\d+)?", claim["printed"]):
        return None
    value = Decimal(claim["printed"])
    return value if claim["what"].endswith("_acc") else 100 - value


def crop_protocol(where: str, side: int) -> str:
    """Empty for a single model on one centre crop at the network's input size; else what the source says."""
    details = words(where)
    one = ONE_CROP.search(where)
    if one and not SEVERAL.search(where):
        return "" if int(one[1] or side) == side else f"single crop {one[1]}"
    return ", ".join(details) if SEVERAL.search(where) else NOT_STATED


def words(where: str) -> Iterable[str]:
    """The details of a claim besides its source: "Table 6, standard augmentation" -> "standard augmentation"."""
    parts = re.split(r", (?![^(]*\))", where)
    return [part for part in parts if not SOURCE.match(part)]


def _top5(claims: Iterable[Mapping[str, str]], top1: Mapping[str, str]) -> Decimal | None:
    """The top-5 accuracy published with a top-1."""
    beside = (c for c in claims if c["what"].startswith("top5") and c["where"] == top1["where"])
    return next((accuracy(claim) for claim in beside), None)
