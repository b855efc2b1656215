"""From named, labelled items to a Data: the split each belongs to, and its class."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from ...errors import UserError
from ...files.plain import utf8
from ...files.text import forms, read_lines, twins
from ..statistics import sample_statistics
from ..types import Data, Split
from .walk import Walk

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # spelling: split
TEST_SHARE = 0.2  # of a data set without splits
VAL_SHARE = 0.1  # of the training images of a folder without val
CLASSES = "classes.txt"  # one class per line, in the order of their numbers
SHOWN = 5  # names in a sentence
FEW = 1000  # numbered classes that may be without images, as many as ImageNet has
NUMBER = re.compile(r"[+-][0-9]+(\.[0-9]*)?|[0-9]{16,}")  # what is neither the number of a class nor a name
MOST = 1 << 24  # bytes of classes.txt
Label = int | str


def parts_of(folder: Path, suffix: str) -> dict[str, list[Path]]:
    """The files below a folder by split: "train" and "val" or "test" or both; all under "" if no name says which.

    Names such as train-00000.tar, val/0.tar, data/test-00000-of-00001.parquet. Raises UserError if there are no such
    files, or none for training, or none for validation and testing, and as walk.py does.
    """
    walk = Walk()
    files = [file for file in walk.files(folder) if file.name.endswith(suffix)]
    named_so = (at for at in walk.found.values() if at.name.endswith(suffix))  # folders, which reading refuses
    files += [at for at in named_so if at != folder and not any(file.is_relative_to(at) for file in files)]
    found: dict[str, list[Path]] = {}
    for file in sorted(files):
        found.setdefault(part_of(file.relative_to(folder)), []).append(file)
    if not found:
        raise UserError(f"{folder} holds no {suffix} files", "give the folder that holds them")
    if set(found) == {""}:
        return found
    if "train" not in found or not {"val", "test"} & found.keys():
        raise UserError(
            f"none of the {suffix} files in {folder} is for {'testing' if 'train' in found else 'training'}",
            "name some train-... and others val-... or test-..., or give none of them such a name",
        )
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def part_of(path: Path) -> str:
    """The split that the name of a file, or of its folder, starts with."""
    for name in (path.name, *reversed(path.parts[:-1])):
        if found := re.match(rf"({'|'.join(sorted(PARTS, key=len, reverse=True))})(?![a-z])", name.lower()):
            return PARTS[found[1]]
    return ""


def numbered(
    folder: Path, labels: dict[str, Sequence[Label]], names: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The classes' names, and the labels (int64) of each split: numbers as they are, names in sorted order.

    `classes.txt` in the folder, or else `names`, names numbered classes, or gives the order of named ones. Raises
    UserError for numbers mixed with names, for a label that is not one of the classes, and for a class without training
    images.
    """
    if empty := [part for part, its in labels.items() if not its]:
        raise UserError(f"{folder} has no {empty[0]} images", "add some, or remove its files")
    every = [label for part in labels.values() for label in part]
    numbers = {label for label in every if isinstance(label, int)}
    named = {label for label in every if isinstance(label, str)}
    if wrong := sorted(filter(NUMBER.fullmatch, named)):
        raise UserError(f"label {wrong[0][:40]!r} in {folder} is not a class", "give numbers from 0, or names")
    if numbers and named:
        raise UserError(f"some labels in {folder} are numbers and some are names", "use one or the other")
    classes = listed_classes(folder) or tuple(names)
    refuse_twins([*classes, *sorted(named)], str(folder))
    if not classes:
        classes = names_of_numbers(max(numbers), len(every), folder) if numbers else tuple(sorted(named))
    labels_in_order: Sequence[Label] = range(len(classes)) if numbers else classes
    number = {label: i for i, label in enumerate(labels_in_order)}
    for label in every:
        if label not in number:
            raise UserError(
                f"label {short(label)} in {folder} is not one of its {len(classes)} classes", f"see {CLASSES}"
            )
    if len(classes) < 2:
        raise UserError(f"the images in {folder} are all of one class", "give two or more")
    found = {part: torch.tensor([number[label] for label in its]) for part, its in labels.items()}
    for part, of_part in found.items():
        if new := sorted(set(of_part.tolist()) - set(found["train"].tolist())):
            raise UserError(f"class {classes[new[0]]!r} has images in {part} but none in train", "add some to train")
    return classes, found


def names_of_numbers(highest: int, images: int, folder: Path) -> tuple[str, ...]:
    """ "0", "1" ... to the highest label. Raises UserError for more classes than images, above FEW."""
    if highest >= max(images, FEW):
        raise UserError(
            f"label {short(highest)} in {folder} is too high for {images:,} {'images' if images > 1 else 'image'}",
            f"number the classes from 0, or name them all in {CLASSES}",
        )
    return tuple(map(str, range(highest + 1)))


def short(label: Label) -> str:
    text = repr(label)
    return text if len(text) <= 40 else f"{text[:40]}... ({len(text):,} characters)"


def without_images(split: Split) -> Iterator[str]:
    """Says which classes have no images in a split, if there are any."""
    counts = torch.bincount(split.labels.cpu(), minlength=len(split.classes)).tolist()
    if empty := [name for name, count in zip(split.classes, counts, strict=True) if not count]:
        names = ", ".join(map(repr, empty[:SHOWN])) + (" ..." if len(empty) > SHOWN else "")
        what, has = ("class", "has") if len(empty) == 1 else ("classes", "have")
        yield f"{what} {names} {has} no {split.name} images ({len(empty)} of {len(split.classes)} classes)"


def listed_classes(folder: Path) -> tuple[str, ...]:
    """The names in classes.txt; none if there is no such file. Raises UserError for a name that is missing or twice."""
    file = folder / CLASSES
    if not os.path.lexists(file):
        return ()
    names = [line.strip() for line in read_lines(file, MOST)]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise UserError(f"{file} names no classes", "write one class per line, or remove it")
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            raise UserError(
                f"{file}, line {number} is empty", "write one class per line, in the order of their numbers"
            )
        if first.setdefault(name, number) != number:
            raise UserError(
                f"{file} names {name!r} in line {first[name]} and in line {number}", "give each class its own name"
            )
    refuse_twins(names, str(file))
    return tuple(names)


def refuse_twins(names: Iterable[str], where: str) -> None:
    """Raises UserError for two classes whose names differ only in their Unicode form."""
    if pair := twins(names):
        raise UserError(
            f"{where} has two classes whose names differ only in their Unicode form, {forms(*pair)}",
            "write the name in one form",
        )


def hold_out(names: Sequence[str], labels: Sequence[Label], seed: int) -> list[bool]:
    """Which items are held out for testing: one in five of each class, the first when names are hashed with `seed`.

    Raises UserError for a class of one image.
    """
    for label in (counts := Counter(labels)):
        if counts[label] < 2:
            raise UserError(f"class {label!r} has only one image", "a class needs at least two to be split")
    return drawn(names, labels, TEST_SHARE, str(seed), least=1)


def drawn(names: Sequence[str], labels: Sequence[Label], share: float, salt: str, least: int = 0) -> list[bool]:
    """Which items are drawn: that share of each class, at least `least`, by their names hashed with `salt`.

    Adding or removing items therefore changes the assignment of few others.
    """
    by_class: dict[Label, list[int]] = {}
    for i, label in enumerate(labels):
        by_class.setdefault(label, []).append(i)
    chosen = [False] * len(names)
    for members in by_class.values():
        keyed = sorted(members, key=lambda i: hashlib.sha256(utf8(f"{salt}/{names[i]}")).digest())
        for i in keyed[: max(round(share * len(members)), least)]:
            chosen[i] = True
    return chosen


def val_from_train(splits: Mapping[str, Split], share: float, seed: int) -> dict[str, Split]:
    """The splits, with that share of each class of the training images moved to val; unchanged for a share of 0.

    Raises UserError for a share outside [0, 1), for one that leaves val without images or a class without training
    images, and if there is already a val split.
    """
    if not 0 <= share < 1:
        raise UserError(f"val={share} is not a share of the training images", "give 0 to below 1, such as 0.1")
    if not share:
        return dict(splits)
    if "val" in splits:
        raise UserError("the data already have a val split", "leave out --val")
    train = splits["train"]
    chosen = torch.tensor(drawn([train.key(i) for i in range(len(train))], train.labels.tolist(), share, f"val {seed}"))
    if not chosen.any():
        raise UserError(f"val={share:g} draws no image: no class has enough of them", "give a larger share")
    if gone := sorted(set(train.labels.tolist()) - set(train.labels[~chosen].tolist())):
        raise UserError(f"val={share:g} leaves no training images of class {train.classes[gone[0]]!r}", "give less")
    parts = {}
    rule = f"{share:g} of each class of the training images, drawn by seed {seed}"
    for name, indices in (("train", (~chosen).nonzero()[:, 0]), ("val", chosen.nonzero()[:, 0])):
        about = {"images": len(indices), "part": rule if name == "val" else f"all but {rule}"}
        parts[name] = train.part(indices, name, {**train.provenance, **about})
    return {**parts, **{name: split for name, split in splits.items() if name != "train"}}


def split_how(seed: int) -> str:
    return f"one in five of each class held out by seed {seed}"


def safe(name: str, where: str) -> PurePosixPath:
    """The name as a path. Raises UserError if it leads out of its folder or archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
        raise UserError(f"{where} names {name!r}, which is outside it", "give a data set without such paths")
    return path


def streamed_data(
    folder: Path, splits: Mapping[str, Split], skipped: tuple[tuple[str, str], ...] = (), notes: tuple[str, ...] = ()
) -> Data:
    """The Data of splits that are not in memory, with the statistics of a sample of the training images."""
    mean, std = sample_statistics(splits["train"], 3)
    name = folder.resolve().name
    train, val, test = splits["train"], splits.get("val"), splits.get("test")
    return Data(name, train, val, test, None, mean, std, skipped=skipped, notes=notes)
