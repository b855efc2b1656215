"""What is in a folder, at any depth: everything is found or named, and nothing is found twice.

Links are followed, to files and to folders. A folder that cannot be listed, a folder that is there twice through links
(itself, in a circle) and a link to nothing beside folders are refused. Left out are hidden names and LITTER, which
systems put among a user's files. What cannot be opened is a file like others: reading it says what is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import UserError, unread

LITTER = {  # in lower case
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
    *("__macosx", "icon\r"),  # macOS
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),  # storage boxes
    *("lost+found",),  # Linux
}


def is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER


class Walk:
    """A pass over the folders of a data set, which finds each of them once."""

    def __init__(self) -> None:
        self.found: dict[str, Path] = {}  # by where they really are
        self.real: dict[Path, str] = {}  # the inverse

    def listed(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The folders in a folder and everything else, sorted by name. Raises UserError: see above."""
        above = None if os.path.islink(folder) else self.real.get(folder.parent)
        real = self.real[folder] = os.path.join(above, folder.name) if above else os.path.realpath(folder)
        if (first := self.found.setdefault(real, folder)) != folder:
            raise UserError(f"{folder} is the same folder as {first}", "remove the link, or copy what it points to")
        folders: list[Path] = []
        others: list[Path] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not is_litter(entry.name):
                        is_folder = os.path.isdir(entry) if entry.is_symlink() else entry.is_dir(follow_symlinks=False)
                        (folders if is_folder else others).append(folder / entry.name)
        except OSError as error:
            raise unread(folder, error) from error
        return sorted(folders), sorted(others)

    def subfolders(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """As `listed`, where the folders are what is looked for: what may have been one is refused, too."""
        folders, others = self.listed(folder)
        for other in others:
            if not os.path.exists(other):
                why = "is a link to nothing" if os.path.islink(other) else "cannot be read"
                raise UserError(f"{other} {why}", "mend it or remove it")
        return folders, others

    def files(self, folder: Path) -> Iterator[Path]:
        """The files at any depth: a folder's own first, then those of its folders."""
        left = [folder]
        while left:
            folders, others = self.listed(left.pop())
            yield from others
            left += reversed(folders)
