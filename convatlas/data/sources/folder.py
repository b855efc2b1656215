"""Image folders: train/ and val/ (or test/) with a sub-folder for each class, or one such folder, split by seed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from ..check.bad import Bad, Policy, Progress, find_bad, quarantine, refuse
from ..decode.reference import MAX_PIXELS, SUFFIXES, Content, content_of
from ..statistics import HOW, sample_statistics
from ..streamed import EncodedSplit
from ..types import Data
from .labels import HELD_OUT, TEST_SHARE, split_how

LITTER = ("thumbs.db", "desktop.ini")  # what Windows hides


@dataclass(eq=False)
class FolderSplit(EncodedSplit):
    """A split whose images are files."""

    name: str
    files: tuple[Path, ...]
    labels: Tensor
    classes: tuple[str, ...]
    provenance: dict[str, Any]
    max_pixels: int = MAX_PIXELS

    def content(self, i: int) -> Content:
        return content_of(self.files[i])

    def where(self, i: int) -> str:
        return str(self.files[i])


def find(folder: Path) -> Path | None:
    """`folder`, where its sub-folders look like classes of images."""
    parts = [folder / name for name in ("train", *HELD_OUT) if (folder / name).is_dir()] or [folder]
    some = (next(files_of(sub), None) for part in parts for sub in subfolders(part))
    return folder if any(file and file.suffix.lower() in SUFFIXES for file in some) else None


def load(
    folder: Path,
    *,
    seed: int = 0,
    bad: str = "fail",
    max_pixels: int = MAX_PIXELS,
    progress: Progress = lambda chunks: chunks,
) -> Data:
    """The set in a folder: see `splits`."""
    train, test, skipped = splits(folder, seed=seed, bad=bad, max_pixels=max_pixels, progress=progress)
    mean, std = sample_statistics(train, 3)
    notes = tuple((it.file, it.reason) for it in skipped)
    return Data(folder.resolve().name, train, test, None, mean, std, skipped=notes)


def splits(
    folder: Path,
    *,
    seed: int = 0,
    bad: str = "fail",
    max_pixels: int = MAX_PIXELS,
    progress: Progress = lambda chunks: chunks,
) -> tuple[FolderSplit, FolderSplit, list[Bad]]:
    """The folder's images, looked at as `bad` says (see bad.py), and the files that were skipped.

    Classes are in the order of their names. Without a split of its own, one in five images of each class is held out:
    those whose path, hashed with `seed`, comes first; files that are skipped count as not there. Raises UserError for
    files that are no images (the first is named), for empty or missing classes, and for classes that differ between
    the parts.
    """
    policy, train = Policy.parse(bad), folder / "train"
    if train.is_dir():
        held_out = next((folder / name for name in HELD_OUT if (folder / name).is_dir()), None)
        if held_out is None:
            raise UserError(
                f"{folder} has a train/ but no val/ or test/", f"add one, or give folder:{train} to have it split"
            )
        found = {"train": classes_of(train), held_out.name: classes_of(held_out)}
        differ = sorted(found["train"].keys() ^ found[held_out.name].keys())
        if differ:
            where = "train" if differ[0] in found["train"] else held_out.name
            more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
            raise UserError(
                f"class {differ[0]!r}{more} is only in {folder / where}",
                f"train/ and {held_out.name}/ need the same classes",
            )
        found, skipped = without_bad(folder, found, policy, max_pixels, progress)
        how = "as laid out"
    else:
        whole, skipped = without_bad(folder, {"": classes_of(folder)}, policy, max_pixels, progress)
        found = split(folder, whole[""], seed)
        how = split_how(seed)
    first, second = (folder_split(folder, name, part, how, max_pixels) for name, part in found.items())
    if skipped:
        first.provenance["skipped"] = len(skipped)
    return first, second, skipped


def classes_of(folder: Path) -> dict[str, list[Path]]:
    """The files of each class, in the order of their names."""
    found = {sub.name: sorted(files_of(sub)) for sub in subfolders(folder)}
    if len(found) < 2:
        has = f"only the sub-folder {next(iter(found))!r}" if found else "no sub-folders"
        raise UserError(
            f"{folder} has {has}", "give a folder with a sub-folder of images for each of two or more classes"
        )
    for name, files in found.items():
        if not files:
            raise UserError(f"the class folder {folder / name} is empty", "fill it or take it away")
    return found


Parts = dict[str, dict[str, list[Path]]]  # split: class: files


def without_bad(
    folder: Path, found: Parts, policy: Policy, max_pixels: int, progress: Progress
) -> tuple[Parts, list[Bad]]:
    """The files that can be read, and the others with the reasons. Raises UserError as the policy says (see bad.py)."""
    if policy.kind == "trust":
        return found, []
    every = [file for part in found.values() for files in part.values() for file in files]
    bad = find_bad(every, decode=policy.kind != "fail", max_pixels=max_pixels, progress=progress)
    if policy.kind == "fail":
        refuse(bad)
    left_out = {it.file for it in bad}
    left: Parts = {}
    for split, part in found.items():
        left[split] = {name: [f for f in files if str(f) not in left_out] for name, files in part.items()}
        for name, files in left[split].items():
            if not files:
                raise UserError(f"no image of the class folder {folder / split / name} can be read", "mend or fill it")
    if policy.into:
        quarantine(bad, folder, policy.into)
    return left, bad


def subfolders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))


def files_of(folder: Path) -> Iterator[Path]:
    """The files below a folder, hidden ones left out."""
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(at, f) for f in sorted(files) if not f.startswith(".") and f.lower() not in LITTER)


def split(folder: Path, found: dict[str, list[Path]], seed: int) -> dict[str, dict[str, list[Path]]]:
    parts: dict[str, dict[str, list[Path]]] = {"train": {}, "test": {}}
    for name, files in found.items():
        if len(files) < 2:
            raise UserError(
                f"the class folder {folder / name} holds one image", "a class that is to be split needs at least two"
            )
        keyed = sorted(
            files, key=lambda f: hashlib.sha256(f"{seed}/{f.relative_to(folder).as_posix()}".encode()).digest()
        )
        n = max(round(TEST_SHARE * len(files)), 1)
        parts["test"][name], parts["train"][name] = sorted(keyed[:n]), sorted(keyed[n:])
    return parts


def folder_split(folder: Path, name: str, part: dict[str, list[Path]], how: str, max_pixels: int) -> FolderSplit:
    files = tuple(file for files in part.values() for file in files)
    labels = torch.tensor([label for label, files in enumerate(part.values()) for _ in files])
    listing = "".join(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n" for file in files)
    provenance = {
        "source": "image folder",
        "path": str(folder),
        "split": how,
        "images": len(files),
        "sha256_of_names_and_sizes": hashlib.sha256(listing.encode()).hexdigest(),
        "mean_and_std": HOW,
    }
    return FolderSplit(name, files, labels, tuple(part), provenance, max_pixels)
