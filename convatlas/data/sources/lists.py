"""Split files: train.txt and val.txt (or test.txt), one image per line: its path within the folder, and its class.

"cats/1.jpg 0" with a number, or "cats/1.jpg<TAB>cat" with a name; the last word of a line without a tab is the class.
Blank lines are skipped, and remarks: lines that begin with # and name no file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ...errors import UserError
from ...files.text import forms, read_lines, twins
from ...limits import whole_number
from ..check.bad import find_bad, refuse
from ..decode.reference import MAX_PIXELS, SUFFIXES
from ..statistics import HOW
from ..types import Data
from .folder import FolderSplit
from .labels import NUMBER, PARTS, Label, numbered, safe, streamed_data, val_from_train

MOST = 1 << 30  # bytes of a list


class Line(NamedTuple):
    """One line of a list, and where it is, for messages."""

    path: str
    label: Label
    where: str


class Listing(NamedTuple):
    """The images of a list, and remarks that look like images."""

    lines: list[Line]
    doubtful: list[Line]


def find(folder: Path) -> Path | None:
    """`folder`, if it has a train.txt that names a file in it."""
    try:
        lines = read_list(folder / "train.txt").lines
    except (OSError, UserError):
        return None
    return folder if any(os.path.isfile(folder / line.path) for line in lines) else None


def load(folder: Path, *, seed: int = 0, val: float = 0.0, max_pixels: int = MAX_PIXELS) -> Data:
    """The data set listed in a folder, with every header checked: see `read_lists` and `splits`."""
    listings = read_lists(folder)
    found = splits(folder, listings, max_pixels)
    files = [file for split in found.values() for file in split.files]
    refuse(find_bad(files, decode=False, max_pixels=max_pixels))
    return streamed_data(folder, val_from_train(found, val, seed), notes=tuple(notes(listings)))


def read_lists(folder: Path) -> dict[str, Listing]:
    """The folder's lists by split.

    Raises UserError for a missing or empty list, for a line that is not a path and a class, and for a path that is
    absolute or leads out of the folder.
    """
    lists = {split: folder / f"{name}.txt" for name, split in PARTS.items() if os.path.lexists(folder / f"{name}.txt")}
    if "train" not in lists or len(lists) == 1:
        raise UserError(f"{folder} has no train.txt with a val.txt or test.txt", "give the folder that has them")
    return {split: read_list(file) for split, file in lists.items()}


def splits(folder: Path, listings: Mapping[str, Listing], max_pixels: int = MAX_PIXELS) -> dict[str, FolderSplit]:
    """The listed images by split. `classes.txt` names numbered classes.

    Raises UserError for labels as `numbered` does, and for a file whose name has another Unicode form.
    """
    lines = {part: listing.lines for part, listing in listings.items()}
    refuse_other_forms(folder, [line for its in lines.values() for line in its])
    classes, labels = numbered(folder, {part: [line.label for line in its] for part, its in lines.items()})
    listed = {}
    for part, its in lines.items():
        files = tuple(folder / line.path for line in its)
        provenance = {
            "source": "lists of images",
            "path": str(folder),
            "split": "as listed",
            "images": len(files),
            "mean_and_std": HOW,
        }
        listed[part] = FolderSplit(part, files, labels[part], classes, provenance, max_pixels)
    return listed


def refuse_other_forms(folder: Path, lines: list[Line]) -> None:
    """Raises UserError for a file that is not there, but is under the same name in another Unicode form."""
    names: dict[Path, list[str]] = {}
    for line in lines:
        if line.path.isascii() or os.path.lexists(folder / line.path):
            continue
        at = folder
        for part in Path(line.path).parts:
            if at not in names:
                names[at] = sorted(os.listdir(at)) if at.is_dir() else []
            if part not in names[at] and (pair := next(filter(None, (twins((part, it)) for it in names[at])), None)):
                raise UserError(
                    f"{line.where} names {line.path!r}, which {at} has in another Unicode form: {forms(*pair)}",
                    "write the list in the form of the files' names",
                )
            at /= part


def notes(listings: Mapping[str, Listing]) -> Iterator[str]:
    """Says which remarks look like images, and which images are listed more than once."""
    for listing in listings.values():
        if listing.doubtful:
            first, many = listing.doubtful[0], len(listing.doubtful)
            others = f" (and {many - 1} more such lines)" if many > 1 else ""
            yield f"{first.where} begins with # and names no file: {first.path!r} is taken for a remark{others}"
    counts = Counter(line.path for listing in listings.values() for line in listing.lines)
    if more := [path for path, count in counts.items() if count > 1]:
        others = f" (and {len(more) - 1} more)" if len(more) > 1 else ""
        yield f"{more[0]!r}{others} is listed more than once"


def read_list(file: Path) -> Listing:
    """The lines of a list. Raises UserError as `read_lists` does."""
    lines, doubtful = [], []
    for number, text in enumerate(read_lines(file, MOST), start=1):
        if not text.strip():
            continue
        where = f"{file}, line {number}"
        if not text.lstrip().startswith("#"):
            lines.append(Line(*parsed(text, where), where))
        elif remark := parts_of_line(text):
            if os.path.lexists(file.parent / remark[0]):
                lines.append(Line(*parsed(text, where), where))
            elif remark[0].lower().endswith(SUFFIXES):
                doubtful.append(Line(*remark, where))
    if not lines:
        raise UserError(f"{file} lists no images", "write one path and class per line")
    return Listing(lines, doubtful)


def parsed(text: str, where: str) -> tuple[str, Label]:
    """The path and the class of a line. Raises UserError for anything else."""
    parts = parts_of_line(text)
    if parts is None:
        raise UserError(f"{where}: {text.strip()!r} is not a path and a class", "write path<TAB>class")
    path, label = parts
    if NUMBER.fullmatch(label):
        raise UserError(f"{where}: {label[:40]!r} is not a class", "give numbers from 0, or names")
    index = whole_number(label)
    return str(safe(path, where)), label if index is None else index


def parts_of_line(text: str) -> tuple[str, str] | None:
    """A line's path and class; None if one of them is missing."""
    path, _, label = text.partition("\t") if "\t" in text else text.strip().rpartition(" ")
    path, label = path.strip(), label.strip()
    return (path, label) if path and label else None
