"""Atomic writes, and the error for a file that another version wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UserError
from .plain import utf8


class Unwritable(UserError):
    """A file cannot be written: the disk is full, or permission is denied. Its previous content is kept."""


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yields a temporary path to write to; on success the file is flushed to disk and replaces `path` atomically.

    The previous file moves to `keep`, if given. A process killed on the way leaves the old file intact (and a
    `.NAME.new` that the next writer overwrites). Raises Unwritable when the disk is full or permission is denied.
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
        "any previous version is kept: free disk space or fix the permissions, then continue",
    )


def relink(path: Path, keep: Path) -> None:
    """Hard-links `path` to `keep`, so that the file always has a name; renames it where hard links do not work."""
    spare = beside(keep)
    spare.unlink(missing_ok=True)
    try:
        os.link(path, spare)
    except OSError:
        os.replace(path, keep)
        return
    os.replace(spare, keep)
    spare.unlink(missing_ok=True)  # renaming between two names of the same file does nothing


def clean(folder: Path) -> None:
    """Removes half-written files that killed processes left behind."""
    for left in folder.glob(".*.new"):
        left.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Returns once the contents of the file or folder are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as new:
        new.write_bytes(utf8(text))


def other_version(path: Path, schema: object, reads: tuple[int, ...]) -> UserError:
    """The error for a file that another version of convatlas wrote."""
    newer = isinstance(schema, int) and schema > reads[-1]
    return UserError(
        f"{path} has schema {schema!r}, this convatlas reads {' and '.join(map(str, reads))}",
        "update convatlas" if newer else "use the version that wrote it",
    )
