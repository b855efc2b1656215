"""Atomic writes, and the error for a file that another version wrote."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from ..errors import UserError
from .plain import utf8


class Unwritable(UserError):
    """A file cannot be written: the disk is full, or permission is denied. Its previous content is kept."""


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yields a temporary path to write to; on success the file is flushed to disk and replaces `path` atomically.

    The previous file moves to `keep`, if given. A process killed on the way leaves the old file intact (and a
    temporary file that `clean` removes). Raises Unwritable when the disk is full or permission is denied.
    """
    new = beside(path)
    try:
        yield new
        flush(new)
        if keep is not None and path.exists():
            relink(path, keep)
        os.replace(new, path)
        flush_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """A temporary name next to `path` that no other writer has, on whichever machine."""
    return path.with_name(f".{path.name}.{token_hex(4)}.new")


def is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".new")


def unwritable(path: Path, error: OSError) -> Unwritable:
    remedy = "any previous version is kept: free disk space or fix the permissions, then continue"
    if isinstance(error, FileNotFoundError) and not path.parent.exists():
        remedy = f"there is no folder {path.parent}: create it, or give another path"
    return Unwritable(f"{path} cannot be written ({error.strerror or error})", remedy)


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
    for left in folder.iterdir():
        if is_temporary(left.name):
            left.unlink(missing_ok=True)


def free(path: Path) -> Path:
    """The path, with a number appended if it is taken."""
    name, n = path.name, 0
    while os.path.lexists(path):
        n += 1
        path = path.with_name(f"{name}.{n}")
    return path


def flush_folder(folder: Path) -> None:
    """Returns once the names in the folder are on the disk, where its file system can say so."""
    try:
        flush(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


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
