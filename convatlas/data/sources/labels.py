"""Labelled items with names, brought together as a Data: which part each belongs to, and what its class is called."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from ...errors import UserError
from ..statistics import sample_statistics
from ..types import Data, Split

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # spelling: split
TEST_SHARE = 0.2  # of a set without splits
VAL_SHARE = 0.1  # of the training images of a folder without val
CLASSES = "classes.txt"  # a class a line, in the order of their numbers
Label = int | str


def parts_of(folder: Path, suffix: str) -> dict[str, list[Path]]:
    """The files below a folder by their split, "train" and "val" or "test" or both; all as "" where no name says.

    Names such as train-00000.tar, val/0.tar, data/test-00000-of-00001.parquet. Raises UserError where there are no such
    files, or none to train on or to judge by.
    """
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob(f"*{suffix}")):
        if not any(part.startswith(".") for part in file.relative_to(folder).parts):
            found.setdefault(part_of(file.relative_to(folder)), []).append(file)
    if not found:
        raise UserError(f"{folder} holds no {suffix} files", "give the folder that does")
    if set(found) == {""}:
        return found
    if "train" not in found or not {"val", "test"} & found.keys():
        raise UserError(
            f"of the {suffix} files in {folder} none is for {'testing' if 'train' in found else 'training'}",
            "name some train-... and others val-... or test-..., or none of them so",
        )
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def part_of(path: Path) -> str:
    """The split that a file's name, or else its folder's, begins with."""
    for name in (path.name, *reversed(path.parts[:-1])):
        if found := re.match(rf"({'|'.join(sorted(PARTS, key=len, reverse=True))})(?![a-z])", name.lower()):
            return PARTS[found[1]]
    return ""


def numbered(folder: Path, labels: dict[str, Sequence[Label]]) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The classes' names, and the labels (int64) of each part: numbers as they are, names in their order.

    `classes.txt` in the folder names the classes of numbers, or says in which order names come. Raises UserError for
    numbers among names, for a label that is none of the classes, and for one of the test without a training image.
    """
    every = [label for part in labels.values() for label in part]
    numbers = {label for label in every if isinstance(label, int)}
    names = {label for label in every if isinstance(label, str)}
    if numbers and names:
        raise UserError(f"some labels in {folder} are numbers and some are names", "make them one or the other")
    classes = listed_classes(folder) or (tuple(map(str, range(max(numbers) + 1))) if numbers else tuple(sorted(names)))
    labels_in_order: Sequence[Label] = range(len(classes)) if numbers else classes
    number = {label: i for i, label in enumerate(labels_in_order)}
    for label in every:
        if label not in number:
            raise UserError(f"label {label!r} in {folder} is none of its {len(classes)} classes", f"see {CLASSES}")
    if len(classes) < 2:
        raise UserError(f"the images in {folder} are all of one class", "give two or more")
    found = {part: torch.tensor([number[label] for label in its]) for part, its in labels.items()}
    for part, of_part in found.items():
        if new := sorted(set(of_part.tolist()) - set(found["train"].tolist())):
            raise UserError(f"class {classes[new[0]]!r} has images in {part} and none in train", "give it some there")
    return classes, found


def listed_classes(folder: Path) -> tuple[str, ...]:
    file = folder / CLASSES
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return tuple(line.strip() for line in lines if line.strip())


def hold_out(names: Sequence[str], labels: Sequence[Label], seed: int) -> list[bool]:
    """Which one in five of each class is for the test: those whose name, hashed with `seed`, comes first.

    Raises UserError for a class of one image.
    """
    for label in (counts := Counter(labels)):
        if counts[label] < 2:
            raise UserError(f"class {label!r} has one image", "a class that is to be split needs at least two")
    return drawn(names, labels, TEST_SHARE, str(seed), least=1)


def drawn(names: Sequence[str], labels: Sequence[Label], share: float, salt: str, least: int = 0) -> list[bool]:
    """Which items are drawn: that share of each class, and `least` at least, by their names hashed with `salt`.

    So what is added to a set, or taken away, moves few of the others.
    """
    by_class: dict[Label, list[int]] = {}
    for i, label in enumerate(labels):
        by_class.setdefault(label, []).append(i)
    chosen = [False] * len(names)
    for members in by_class.values():
        keyed = sorted(members, key=lambda i: hashlib.sha256(f"{salt}/{names[i]}".encode()).digest())
        for i in keyed[: max(round(share * len(members)), least)]:
            chosen[i] = True
    return chosen


def val_from_train(splits: Mapping[str, Split], share: float, seed: int) -> dict[str, Split]:
    """The splits with that share of each class of the training images as val; unchanged for a share of 0.

    Raises UserError for a share that is not below 1, and where there is a val already.
    """
    if not 0 <= share < 1:
        raise UserError(f"val={share} is not a share of the training images", "give 0 to below 1, such as 0.1")
    if not share:
        return dict(splits)
    if "val" in splits:
        raise UserError("the data have a val split already", "leave out --val")
    train = splits["train"]
    chosen = torch.tensor(drawn([train.key(i) for i in range(len(train))], train.labels.tolist(), share, f"val {seed}"))
    if not chosen.any():
        return dict(splits)
    parts = {}
    rule = f"{share:g} of each class of the training images, drawn by seed {seed}"
    for name, indices in (("train", (~chosen).nonzero()[:, 0]), ("val", chosen.nonzero()[:, 0])):
        about = {"images": len(indices), "part": rule if name == "val" else f"all but {rule}"}
        parts[name] = train.part(indices, name, {**train.provenance, **about})
    return {**parts, **{name: split for name, split in splits.items() if name != "train"}}


def split_how(seed: int) -> str:
    return f"one in five of each class held out by seed {seed}"


def safe(name: str, where: str) -> PurePosixPath:
    """The name as a path. Raises UserError for one that leads out of the folder or archive that it stands in."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
        raise UserError(f"{where} names {name!r}, which lies outside of it", "such a set is not read")
    return path


def digest_of(lines: Iterable[str]) -> str:
    """sha256 of the lines: enough to tell whether a set has changed."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def streamed_data(folder: Path, splits: Mapping[str, Split], skipped: tuple[tuple[str, str], ...] = ()) -> Data:
    """The Data of splits that are not in memory, with the statistics of a sample of the training images."""
    mean, std = sample_statistics(splits["train"], 3)
    name = folder.resolve().name
    return Data(name, splits["train"], splits.get("val"), splits.get("test"), None, mean, std, skipped=skipped)
