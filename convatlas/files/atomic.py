"""Files that are written whole or not at all, and what is said of those that another version wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UserError


class Unwritable(UserError):
    """A file of a run cannot be written: the disk is full, or forbids it. What the file held before is kept."""


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """A name to write to; on success the file is on the disk and takes the place of `path`, in one step.

    What was at `path` is then at `keep`, if that is given. A process killed on the way leaves a whole old file (and a
    `.NAME.new` that the next writer overwrites). Raises Unwritable where the disk is full or forbids it.
    """
    new = beside(path)
    try:
        yield new
        flush(new)
        if keep is not None and path.exists():
            relink(path, keep)
        os.replace(new, path)
        flush(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def unwritable(path: Path, error: OSError) -> Unwritable:
    return Unwritable(
        f"{path} cannot be written ({error.strerror or error})",
        "what was there before is kept: make room for it, or mend what forbids it, and go on",
    )


def relink(path: Path, keep: Path) -> None:
    """Gives the file at `path` the name `keep` as well, where the file system can, so that it never lacks a name."""
    spare = beside(keep)
    spare.unlink(missing_ok=True)
    try:
        os.link(path, spare)
    except OSError:
        os.replace(path, keep)
        return
    os.replace(spare, keep)
    spare.unlink(missing_ok=True)  # renaming one name of a file to another one of it does nothing


def clean(folder: Path) -> None:
    """Takes away what killed writers left half written."""
    for left in folder.glob(".*.new"):
        left.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Returns when the file's, or the folder's, contents are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def other_version(path: Path, schema: object, reads: tuple[int, ...]) -> UserError:
    """The refusal of a file that another version of convatlas wrote."""
    newer = isinstance(schema, int) and schema > reads[-1]
    return UserError(
        f"{path} has schema {schema!r}, this convatlas reads {' and '.join(map(str, reads))}",
        "update convatlas" if newer else "use the version that wrote it",
    )
