"""Image folders: train/ and val/ or test/ with a sub-folder for each class, or one such folder, split by seed."""

from __future__ import annotations

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
from ..statistics import HOW
from ..streamed import EncodedSplit
from ..types import Data
from .labels import PARTS, VAL_SHARE, digest_of, hold_out, split_how, streamed_data, val_from_train

LITTER = ("thumbs.db", "desktop.ini")  # hidden by Windows


@dataclass(eq=False)
class FolderSplit(EncodedSplit):
    """A split of image files."""

    name: str
    files: tuple[Path, ...]
    labels: Tensor
    classes: tuple[str, ...]
    provenance: dict[str, Any]
    max_pixels: int = MAX_PIXELS

    def content(self, i: int) -> Content:
        return content_of(self.files[i], self.max_pixels)

    def where(self, i: int) -> str:
        return str(self.files[i])

    def key(self, i: int) -> str:
        return self.files[i].relative_to(self.provenance["path"]).as_posix()

    def part(self, indices: Tensor, name: str, provenance: dict[str, Any]) -> FolderSplit:
        files = tuple(self.files[i] for i in indices.tolist())
        return FolderSplit(name, files, self.labels[indices], self.classes, provenance, self.max_pixels)


def find(folder: Path) -> Path | None:
    """`folder`, if its sub-folders look like classes of images."""
    parts = [folder / name for name in PARTS if (folder / name).is_dir()] or [folder]
    some = (next(files_of(sub), None) for part in parts for sub in subfolders(part))
    return folder if any(file and file.suffix.lower() in SUFFIXES for file in some) else None


def load(
    folder: Path,
    *,
    seed: int = 0,
    val: float | None = None,
    bad: str = "fail",
    max_pixels: int = MAX_PIXELS,
    progress: Progress = lambda chunks: chunks,
) -> Data:
    """The data set in a folder: see `splits`. Without a val split, VAL_SHARE of the training images becomes one."""
    found, skipped = splits(folder, seed=seed, bad=bad, max_pixels=max_pixels, progress=progress)
    share = val if val is not None else 0.0 if "val" in found else VAL_SHARE
    notes = tuple((it.file, it.reason) for it in skipped)
    return streamed_data(folder, val_from_train(found, share, seed), notes)


def splits(
    folder: Path,
    *,
    seed: int = 0,
    bad: str = "fail",
    max_pixels: int = MAX_PIXELS,
    progress: Progress = lambda chunks: chunks,
) -> tuple[dict[str, FolderSplit], list[Bad]]:
    """The folder's images by split, checked as `bad` says (see bad.py), and the skipped files.

    Classes are sorted by name. A folder without splits has one in five images of each class held out for testing:
    the first when paths are hashed with `seed`; skipped files do not count. Raises UserError for files that are not
    images (naming the first), for empty or missing classes, and for classes that differ between the splits.
    """
    policy, train = Policy.parse(bad), folder / "train"
    if train.is_dir():
        places = {part: folder / name for name, part in reversed(PARTS.items()) if (folder / name).is_dir()}
        if len(places) == 1:
            raise UserError(
                f"{folder} has a train/ but no val/ or test/", f"add one, or give folder:{train} to have it split"
            )
        laid_out: Parts = {part: classes_of(places[part]) for part in dict.fromkeys(PARTS.values()) if part in places}
        for part, place in places.items():
            differ = sorted(laid_out["train"].keys() ^ laid_out[part].keys())
            if differ:
                where = train if differ[0] in laid_out["train"] else place
                more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
                raise UserError(
                    f"class {differ[0]!r}{more} is only in {where}", f"train/ and {place.name}/ need the same classes"
                )
        found, skipped = without_bad(folder, laid_out, policy, max_pixels, progress)
        how = "as laid out"
    else:
        whole, skipped = without_bad(folder, {"": classes_of(folder)}, policy, max_pixels, progress)
        found = split(folder, whole[""], seed)
        how = split_how(seed)
    parts = {name: folder_split(folder, name, files, how, max_pixels) for name, files in found.items()}
    if skipped:
        parts["train"].provenance["skipped"] = len(skipped)
    return parts, skipped


def classes_of(folder: Path) -> dict[str, list[Path]]:
    """The files of each class, sorted by class name."""
    found = {sub.name: sorted(files_of(sub)) for sub in subfolders(folder)}
    if len(found) < 2:
        has = f"only the sub-folder {next(iter(found))!r}" if found else "no sub-folders"
        raise UserError(
            f"{folder} has {has}", "give a folder with a sub-folder of images for each of two or more classes"
        )
    for name, files in found.items():
        if not files:
            raise UserError(f"the class folder {folder / name} is empty", "fill it or remove it")
    return found


Parts = dict[str, dict[str, list[Path]]]  # split: class: files


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


def subfolders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))


def files_of(folder: Path) -> Iterator[Path]:
    """The files below a folder, except hidden ones."""
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(at, f) for f in sorted(files) if not f.startswith(".") and f.lower() not in LITTER)


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
        "sha256_of_names_and_sizes": digest_of(
            f"{file.relative_to(folder).as_posix()} {file.stat().st_size}" for file in files
        ),
        "mean_and_std": HOW,
    }
    return FolderSplit(name, files, labels, tuple(part), provenance, max_pixels)
