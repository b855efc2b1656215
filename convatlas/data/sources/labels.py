"""Labelled items with names, brought together as a Data: which part each belongs to, and what its class is called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from ...errors import UserError
from ..statistics import sample_statistics
from ..types import Data, Split

HELD_OUT = ("val", "valid", "validation", "test")  # the first that there is
TEST_SHARE = 0.2
CLASSES = "classes.txt"  # a class a line, in the order of their numbers
Label = int | str


def parts_of(folder: Path, suffix: str) -> dict[str, list[Path]]:
    """The files below a folder by their part: "train", and the first of HELD_OUT that there is; all as "" where no name
    says (train-00000.tar, val/0.tar, data/test-00000-of-00001.parquet).

    Raises UserError where there are no such files, or only those of one part that is named.
    """
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob(f"*{suffix}")):
        if not any(part.startswith(".") for part in file.relative_to(folder).parts):
            found.setdefault(part_of(file.relative_to(folder)), []).append(file)
    if not found:
        raise UserError(f"{folder} holds no {suffix} files", "give the folder that does")
    if set(found) == {""}:
        return found
    held_out = next((name for name in HELD_OUT if name in found), None)
    if "train" not in found or held_out is None:
        raise UserError(
            f"of the {suffix} files in {folder} none is for {('training' if held_out else 'the test')}",
            "give some the name train-... and others val-... or test-..., or none such names",
        )
    return {"train": found["train"], held_out: found[held_out]}


def part_of(path: Path) -> str:
    """The part that a file's name, or else its folder's, begins with."""
    for name in (path.name, *reversed(path.parts[:-1])):
        if found := re.match(rf"(train|{'|'.join(sorted(HELD_OUT, key=len, reverse=True))})(?![a-z])", name.lower()):
            return found[1]
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
    by_class: dict[Label, list[int]] = {}
    for i, label in enumerate(labels):
        by_class.setdefault(label, []).append(i)
    held = [False] * len(names)
    for label, members in by_class.items():
        if len(members) < 2:
            raise UserError(f"class {label!r} has one image", "a class that is to be split needs at least two")
        keyed = sorted(members, key=lambda i: hashlib.sha256(f"{seed}/{names[i]}".encode()).digest())
        for i in keyed[: max(round(TEST_SHARE * len(members)), 1)]:
            held[i] = True
    return held


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


def streamed_data(folder: Path, splits: tuple[Split, Split]) -> Data:
    """The Data of two splits that are not in memory, with the statistics of a sample."""
    return Data(folder.resolve().name, *splits, None, *sample_statistics(splits[0], 3))
