"""Accuracies in results files: those that `convatlas measure` wrote, and timm's results-imagenet*.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..data.kinds import KINDS
from ..engines.results import Damage, Record, newest
from ..engines.results import read as read_records
from ..errors import UserError
from ..files.text import read_text
from ..limits import real_number, whole_number
from ..tables import index
from ..tables.published import DATASETS
from ..weights.published import published
from .facts import CENTER, Fact

LARGEST = 1 << 26  # bytes of a file of timm's
COLUMNS = ("model", "img_size", "top1", "top5")
TIMM_FILES = {  # the data set that each is on
    "results-imagenet": "imagenet",
    "results-imagenet-real": "imagenet-real",
    "results-imagenetv2-matched-frequency": "imagenetv2",
}
FOLDERS = {"cifar-10-batches-py": "cifar10", "cifar-100-python": "cifar100"}


def read(files: Iterable[Path]) -> tuple[list[Fact], list[Damage]]:
    """The accuracies of files, and the lines that are none.

    Raises UserError for a file of something else.
    """
    facts: list[Fact] = []
    records: list[Record] = []
    damages: list[Damage] = []
    for file in files:
        if is_timms(file):
            found, bad = of_timm(file)
            facts += found
        else:
            some, bad = read_records(file)
            records += some
        damages += bad
    facts += [
        fact for record in newest([r for r in records if r.accuracy.kind == "measured"]) for fact in measured(record)
    ]
    return facts, damages


def measured(record: Record) -> list[Fact]:
    """The measured accuracy of a record in fp32, if it has one."""
    of = record.accuracy
    if of.kind != "measured" or of.top1 is None or record.network not in index() or record.precision != "fp32":
        return []
    whose = record.model.partition("@")[2] or Path(record.model).stem
    own = max(record.input[1:]) == max(index()[record.network]["input"][1:])
    return [
        Fact(
            network=record.network,
            source=f"measured/{whose}",
            dataset=dataset_of(of.source),
            kind="measured",
            top1=of.top1,
            top5=of.top5,
            single=True,
            protocol=CENTER
            if own and of.protocol in ("", CENTER)
            else of.protocol or f"single crop {record.input[-1]}",
            where=f"measured on {of.n:,} images of {of.source}, {record.date[:10]}",
            weights=record.model,
            origin=f"{record.model}, as it was measured",
            images=of.n,
            low=of.low,
            high=of.high,
        )
    ]


def dataset_of(data: str) -> str:
    """The data set that data given to `measure --data` is: by its kind, or its folder's name; else its own name."""
    kind, _, place = data.partition(":")
    name = Path(place or kind).name
    return next((n for n in (kind if kind in KINDS else "", FOLDERS.get(name, name)) if n in DATASETS), data)


def is_timms(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8-sig") as opened:
            first = opened.readline(4096)
    except (OSError, UnicodeDecodeError):
        return False
    return set(COLUMNS) <= {name.strip() for name in first.split(",")}


def of_timm(file: Path) -> tuple[list[Fact], list[Damage]]:
    """The accuracies of the networks that are in the atlas, by timm's weights (model.tag).

    Raises UserError for a name that does not say on which images, and for a file without any of the networks.
    """
    if file.stem not in TIMM_FILES:
        raise UserError(
            f"{file.name} does not say on which images it was measured",
            f"keep the name that timm gives it: {', '.join(f'{name}.csv' for name in TIMM_FILES)}",
        )
    rows = {(row.called, row.tag): row.name for row in published().values() if row.source == "timm"}
    called = {row.called: row.network for row in published().values() if row.source == "timm"}
    lines = csv.reader(read_text(file, LARGEST).splitlines())
    names = [name.strip() for name in next(lines)]
    facts: list[Fact] = []
    damages: list[Damage] = []
    for number, cells in enumerate(lines, 2):
        try:
            line = dict(zip(names, cells, strict=True)) if cells else {}
            architecture, _, tag = line.get("model", "").partition(".")
            if architecture in called:
                weights = rows.get((architecture, tag), "")
                facts.append(of_line(line, called[architecture], tag, weights, file))
        except ValueError as error:
            damages.append(Damage(str(file), number, error.what if isinstance(error, UserError) else str(error)))
    if not facts:
        raise UserError(f"{file} has no network of the atlas", "give a file that timm published")
    return facts, damages


def of_line(line: Mapping[str, str], network: str, tag: str, weights: str, file: Path) -> Fact:
    """Raises ValueError for a line without numbers where they should be."""
    side = whole_number(line["img_size"])
    top1, top5 = real_number(line["top1"]), real_number(line["top5"])
    if side is None or not (0 <= top1 <= 100 and 0 <= top5 <= 100):
        raise ValueError("its image size or an accuracy is out of range")
    own = side == max(index()[network]["input"][1:])
    crop = f", crop {line['crop_pct']}" if line.get("crop_pct") else ""
    return Fact(
        network=network,
        source=f"timm/{tag}" if tag else "timm",
        dataset=TIMM_FILES[file.stem],
        kind="library",
        top1=top1,
        top5=top5,
        single=True,
        protocol=CENTER if own else f"single crop {side}",
        where=f"{file.name}, {line['model']} at {side} pixels{crop}",
        weights=weights,
        origin=f"published by timm, trained as {tag}" if tag else "published by timm",
    )
