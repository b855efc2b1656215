"""Policies for files that are not images, or are damaged: each is named, none is replaced by another image.

fail              stop before training and name the first (reads only headers)
trust             check nothing in advance; training stops at the first
skip              decode every file in advance; leave out and list those that cannot be decoded
quarantine:DIR    as skip, and move them to DIR under the same names, each logged in DIR/quarantine.jsonl
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from ...errors import Unreadable, UserError
from ...files.atomic import free
from ..decode.reference import MAX_PIXELS, open_image, read_image
from ..kinds import at_home

THREADS = min(32, os.cpu_count() or 1)
CHUNK = 64  # files per job
LIST = "quarantine.jsonl"

Progress = Callable[[Sequence[list[Path]]], Iterable[list[Path]]]


@dataclass(frozen=True)
class Bad:
    """A file that is not a complete image, and what is wrong with it."""

    file: str
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Policy:
    kind: str = "fail"  # or "trust", "skip", "quarantine"
    into: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Raises UserError for anything but fail, trust, skip and quarantine:DIR."""
        kind, colon, place = text.partition(":")
        if (kind in ("fail", "trust", "skip") and not colon) or (kind == "quarantine" and place):
            return cls(kind, at_home(place) if place else None)
        raise UserError(f"no policy {text!r} for bad images", "give fail, trust, skip or quarantine:DIR")


def find_bad(
    files: Iterable[Path], *, decode: bool, max_pixels: int = MAX_PIXELS, progress: Progress = lambda chunks: chunks
) -> list[Bad]:
    """The bad files, in the order given; judged by their headers only or, with `decode`, by all pixels."""
    every = list(files)
    chunks = [every[i : i + CHUNK] for i in range(0, len(every), CHUNK)]

    def bad_of(chunk: list[Path]) -> list[Bad]:
        found = []
        for file in chunk:
            try:
                if decode:
                    read_image(file, 3, max_pixels)
                else:
                    open_image(file, max_pixels).close()
            except Unreadable:  # of the machine, whatever the policy: the file may be intact
                raise
            except UserError as error:
                found.append(Bad(str(file), error.what, error.remedy))
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        return [bad for found in pool.map(bad_of, progress(chunks)) for bad in found]


def refuse(bad: Sequence[Bad]) -> None:
    """Raises UserError for the first."""
    if bad:
        more = f" ({len(bad) - 1} more bad files)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0].reason}{more}", bad[0].remedy)


def quarantine(bad: Sequence[Bad], root: Path, into: Path) -> None:
    """Moves the files from `root` to `into`, keeping their relative paths. Nothing is overwritten or deleted.

    Each move is logged to `into`/quarantine.jsonl before it is made. Raises UserError if a move fails.
    """
    if into.absolute().is_relative_to(root.absolute()):
        raise UserError(
            f"the quarantine {into} is inside {root}, so its files would be found again", "give another DIR"
        )
    try:
        into.mkdir(parents=True, exist_ok=True)
        for it in bad:
            file = Path(it.file)
            if not os.path.lexists(file):  # another process of the same run moved it first
                continue
            target = free(into / file.relative_to(root))
            target.parent.mkdir(parents=True, exist_ok=True)
            with (into / LIST).open("a", encoding="utf-8") as listing:
                listing.write(json.dumps({**asdict(it), "moved_to": str(target)}) + "\n")
                listing.flush()
                os.fsync(listing.fileno())
            move(file, target)
    except OSError as error:
        raise UserError(f"{error.filename or into} cannot be moved to {into} ({error.strerror or error})") from error


def move(file: Path, target: Path) -> None:
    """Moves across file systems too, but only regular files and links: reading a pipe would never end."""
    try:
        os.rename(file, target)
    except OSError:
        mode = file.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise
        shutil.move(file, target)
