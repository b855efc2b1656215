"""Image folders: train/ and val/ or test/ with a sub-folder for each class, or one such folder, split by seed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ...files.regular import stamp, unchanged
from ...files.text import forms, twins
from ..check.bad import Bad, Policy, Progress, find_bad, quarantine, refuse
from ..decode.reference import MAX_PIXELS, SUFFIXES, UNREAD, Content, content_of
from ..statistics import HOW
from ..streamed import EncodedSplit
from ..types import Data
from .labels import PARTS, VAL_SHARE, hold_out, refuse_twins, split_how, streamed_data, val_from_train
from .walk import Walk

FIRST = 100  # files of a class among which an image is looked for, to recognise a folder


@dataclass(eq=False)
class FolderSplit(EncodedSplit):
    """A split of image files."""

    name: str
    files: tuple[Path, ...]
    labels: Tensor
    classes: tuple[str, ...]
    provenance: dict[str, Any]
    max_pixels: int = MAX_PIXELS
    stamps: np.ndarray | None = None  # int64 (N, 2), of the files as they were found

    def __post_init__(self) -> None:
        if self.stamps is None:
            self.stamps = np.array([stamp(file) for file in self.files], np.int64).reshape(-1, 2)

    def content(self, i: int) -> Content:
        return content_of(self.files[i], self.max_pixels)

    def check(self, i: int) -> None:
        unchanged(self.files[i], self.stamps[i])  # type: ignore[index]

    def where(self, i: int) -> str:
        return str(self.files[i])

    def key(self, i: int) -> str:
        return self.files[i].relative_to(self.provenance["path"]).as_posix()

    def sizes(self) -> np.ndarray:
        return self.stamps[:, :1]  # type: ignore[index]

    def part(self, indices: Tensor, name: str, provenance: dict[str, Any]) -> FolderSplit:
        files = tuple(self.files[i] for i in indices.tolist())
        stamps = self.stamps[indices.numpy()]  # type: ignore[index]
        return FolderSplit(name, files, self.labels[indices], self.classes, provenance, self.max_pixels, stamps)


def find(folder: Path) -> Path | None:
    """`folder`, if its sub-folders look like classes of images."""
    walk = Walk()
    parts = [folder / name for name in PARTS if (folder / name).is_dir()] or [folder]
    some = (file for part in parts for sub in walk.listed(part)[0] for file in islice(walk.files(sub), FIRST))
    return folder if any(file.suffix.lower() in SUFFIXES for file in some) else None


def load(
    folder: Path,
    *,
    seed: int = 0,
    val: float | None = None,
    bad: str = "fail",
    max_pixels: int = MAX_PIXELS,
    progress: Progress = lambda chunks: chunks,
) -> Data:
    """The data set in a folder: see `laid_out` and `splits`.

    Without a val split, VAL_SHARE of the training images becomes one.
    """
    whole = laid_out(folder)
    found, skipped = splits(folder, whole.parts, seed=seed, bad=bad, max_pixels=max_pixels, progress=progress)
    enough = round(VAL_SHARE * int(found["train"].labels.bincount().max())) > 0
    share = val if val is not None else VAL_SHARE if "val" not in found and enough else 0.0
    left_out = tuple((it.file, it.reason) for it in skipped)
    return streamed_data(folder, val_from_train(found, share, seed), left_out, whole.notes)


def splits(
    folder: Path,
    parts: Parts,
    *,
    seed: int = 0,
    bad: str = "fail",
    max_pixels: int = MAX_PIXELS,
    progress: Progress = lambda chunks: chunks,
) -> tuple[dict[str, FolderSplit], list[Bad]]:
    """The folder's images (as `laid_out` has them) by split, checked as `bad` says (see bad.py), and the skipped files.

    A folder without splits has one in five images of each class held out for testing: the first when paths are hashed
    with `seed`; skipped files do not count. Raises UserError for files that are not images, naming the first, and for a
    class without others.
    """
    found, skipped = without_bad(folder, parts, Policy.parse(bad), max_pixels, progress)
    how = "as laid out"
    if "" in found:
        found, how = split(folder, found[""], seed), split_how(seed)
    made = {name: folder_split(folder, name, files, how, max_pixels) for name, files in found.items()}
    if skipped:
        made["train"].provenance["skipped"] = len(skipped)
    return made, skipped


Parts = dict[str, dict[str, list[Path]]]  # split: class: files


class LaidOut(NamedTuple):
    """The files of each class of each split ("" in a folder without splits), and what is not used, a sentence each."""

    parts: Parts
    notes: tuple[str, ...]


def laid_out(folder: Path) -> LaidOut:
    """Everything in a folder, classes sorted by name.

    Raises UserError for empty or missing classes, for classes that differ between the splits, and for folders and links
    that cannot be followed (see walk.py).
    """
    walk, unused, train = Walk(), Unused(), folder / "train"
    if not os.path.isdir(train):
        parts = {"": classes_of(folder, walk, unused)}
        if {name.lower() for name in parts[""]} <= PARTS.keys():
            has = " and ".join(f"{name}/" for name in parts[""])
            raise UserError(f"{folder} has {has} but no train/", "name the folder of training images train")
    else:
        folders, others = walk.subfolders(folder)
        places: dict[str, Path] = {}
        for name, part in PARTS.items():
            if (place := folder / name) in folders and places.setdefault(part, place) != place:
                raise UserError(f"{folder} has both {places[part].name}/ and {name}/", "merge them, or remove one")
        if len(places) == 1:
            raise UserError(
                f"{folder} has a train/ but no val/ or test/", f"add one, or give folder:{train} to have it split"
            )
        unused.add(folder, others)
        unused.folders += [sub for sub in folders if sub not in places.values()]
        parts = {part: classes_of(place, walk, unused) for part, place in places.items()}
        for part, place in places.items():
            refuse_twins(sorted({*parts["train"], *parts[part]}), str(folder))
            differ = sorted(parts["train"].keys() ^ parts[part].keys())
            if differ:
                where = train if differ[0] in parts["train"] else place
                more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
                raise UserError(
                    f"class {differ[0]!r}{more} is only in {where}", f"train/ and {place.name}/ need the same classes"
                )
    return LaidOut(parts, (*unused.said(), *twin_files(parts)))


class Unused:
    """Images and folders beside those that are used."""

    def __init__(self) -> None:
        self.images: list[Path] = []
        self.folders: list[Path] = []

    def add(self, folder: Path, files: Iterable[Path]) -> None:
        self.images += [file for file in files if file.suffix.lower() in (*SUFFIXES, *UNREAD)]

    def said(self) -> Iterator[str]:
        for found, where in ((self.images, "in no class folder"), (self.folders, "neither train/, val/ nor test/")):
            if found:
                more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
                yield f"{found[0]}{more} is not used: it is {where}"


def twin_files(parts: Parts) -> Iterator[str]:
    """Says which files have names that differ only in their Unicode form, such as copies made on another system."""
    for part in parts.values():
        for files in part.values():
            if pair := twins(str(file) for file in files if not str(file).isascii()):
                yield f"two files have names that differ only in their Unicode form, {forms(*pair)}; both are used"


def classes_of(folder: Path, walk: Walk, unused: Unused) -> dict[str, list[Path]]:
    """The files of each class, sorted by class name."""
    folders, others = walk.subfolders(folder)
    unused.add(folder, others)
    found = {sub.name: sorted(walk.files(sub)) for sub in folders}
    refuse_twins(found, str(folder))
    if len(found) < 2:
        has = f"only the sub-folder {next(iter(found))!r}" if found else "no sub-folders"
        raise UserError(
            f"{folder} has {has}", "give a folder with a sub-folder of images for each of two or more classes"
        )
    for name, files in found.items():
        if not files:
            raise UserError(f"the class folder {folder / name} is empty", "fill it or remove it")
    return found


def without_bad(
    folder: Path, found: Parts, policy: Policy, max_pixels: int, progress: Progress
) -> tuple[Parts, list[Bad]]:
    """The readable files, and the others with reasons. Raises UserError as the policy says (see bad.py)."""
    if policy.kind == "trust":
        return found, []
    every = [file for part in found.values() for files in part.values() for file in files]
    bad = find_bad(every, decode=policy.kind != "fail", max_pixels=max_pixels, progress=progress)
    if policy.kind == "fail":
        refuse(bad)
    left_out = {it.file for it in bad}
    left: Parts = {}
    for part_name, part in found.items():
        left[part_name] = {name: [f for f in files if str(f) not in left_out] for name, files in part.items()}
        for name, files in left[part_name].items():
            if not files:
                raise UserError(
                    f"no image of the class folder {folder / part_name / name} can be read",
                    "replace its images or remove it",
                )
    if policy.into:
        quarantine(bad, folder, policy.into)
    return left, bad


def split(folder: Path, found: dict[str, list[Path]], seed: int) -> Parts:
    """Each class's files, divided into train and test."""
    items = [(name, file) for name, files in found.items() for file in files]
    held = hold_out([file.relative_to(folder).as_posix() for _, file in items], [name for name, _ in items], seed)
    parts: Parts = {part: {name: [] for name in found} for part in ("train", "test")}
    for (name, file), is_held in zip(items, held, strict=True):
        parts["test" if is_held else "train"][name].append(file)
    return parts


def folder_split(folder: Path, name: str, part: dict[str, list[Path]], how: str, max_pixels: int) -> FolderSplit:
    files = tuple(file for files in part.values() for file in files)
    labels = torch.tensor([label for label, files in enumerate(part.values()) for _ in files])
    provenance = {
        "source": "image folder",
        "path": str(folder),
        "split": how,
        "images": len(files),
        "mean_and_std": HOW,
    }
    return FolderSplit(name, files, labels, tuple(part), provenance, max_pixels)
