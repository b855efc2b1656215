"""Split files: train.txt and val.txt (or test.txt), one image per line: its path within the folder, and its class.

"cats/1.jpg 0" with a number, or "cats/1.jpg<TAB>cat" with a name; the last word of a line without a tab is the class.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ...files.regular import read_bytes
from ...limits import whole_number
from ..check.bad import find_bad, refuse
from ..decode.reference import MAX_PIXELS
from ..statistics import HOW
from ..types import Data
from .folder import FolderSplit
from .labels import PARTS, Label, digest_of, numbered, safe, streamed_data, val_from_train

MOST = 1 << 30  # bytes of a list


def find(folder: Path) -> Path | None:
    """`folder`, if it has a train.txt that names a file in it."""
    try:
        return folder if (folder / read_list(folder / "train.txt")[0][0]).is_file() else None
    except (OSError, UserError):
        return None


def load(folder: Path, *, seed: int = 0, val: float = 0.0, max_pixels: int = MAX_PIXELS) -> Data:
    """The data set listed in a folder, with every header checked: see `splits`."""
    found = splits(folder, max_pixels=max_pixels)
    files = [file for split in found.values() for file in split.files]
    refuse(find_bad(files, decode=False, max_pixels=max_pixels))
    return streamed_data(folder, val_from_train(found, val, seed))


def splits(folder: Path, *, max_pixels: int = MAX_PIXELS) -> dict[str, FolderSplit]:
    """The listed images by split. `classes.txt` names numbered classes.

    Raises UserError for a missing or empty list, for a line that is not a path and a class, and for a path that is
    absolute or leads out of the folder.
    """
    lists = {split: folder / f"{name}.txt" for name, split in PARTS.items() if (folder / f"{name}.txt").exists()}
    if "train" not in lists or len(lists) == 1:
        raise UserError(f"{folder} has no train.txt with a val.txt or test.txt", "give the folder that has them")
    found = {split: read_list(file) for split, file in lists.items()}
    classes, labels = numbered(folder, {part: [label for _, label in lines] for part, lines in found.items()})
    listed = {}
    for part, lines in found.items():
        files = tuple(folder / path for path, _ in lines)
        provenance = {
            "source": "lists of images",
            "path": str(folder),
            "split": "as listed",
            "images": len(files),
            "sha256_of_names_and_sizes": digest_of(
                f"{path} {label} {size_of(file)}" for (path, label), file in zip(lines, files)
            ),
            "mean_and_std": HOW,
        }
        listed[part] = FolderSplit(part, files, labels[part], classes, provenance, max_pixels)
    return listed


def size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else -1


def read_list(file: Path) -> list[tuple[str, Label]]:
    """Each line's path and class; blank lines and comments (#) are skipped."""
    content = read_bytes(file, MOST, "write one path and class per line")
    try:
        text = content.decode("utf-8")
    except ValueError as error:
        raise UserError(f"{file} is not UTF-8 text", "write one path and class per line") from error
    lines = [
        parsed(line, file, number)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise UserError(f"{file} lists no images", "write one path and class per line")
    return lines


def parsed(line: str, file: Path, number: int) -> tuple[str, Label]:
    path, _, label = line.partition("\t") if "\t" in line else line.strip().rpartition(" ")
    path, label = path.strip(), label.strip()
    if not path or not label:
        raise UserError(f"{file}, line {number}: {line.strip()!r} is not a path and a class", "write path<TAB>class")
    index = whole_number(label)
    return str(safe(path, f"{file}, line {number}")), label if index is None else index
