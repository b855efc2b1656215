"""What every reader of a user's file asks first: whether it is one, and how much of it may be meant."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from io import BufferedReader, FileIO
from os import PathLike, fspath
from typing import Any

from ..errors import OF_PATHS, UserError, unread

KINDS = {  # what a path may be other than a file
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
RATIO = 100  # images and labels compress to less; what they are compressed with reaches 1,000 and more
FLOOR = 1 << 26  # bytes that any file may unpack to

Place = str | PathLike[str]


def regular(path: Place, most: int | None = None, remedy: str = "give a file") -> os.stat_result:
    """What the system says of the file. Raises UserError for anything but a regular file (opening a pipe would wait
    until someone writes to it) and for one of more than `most` bytes; OSError if there is none."""
    about = os.stat(path)
    kind = stat.S_IFMT(about.st_mode)
    if kind != stat.S_IFREG:
        raise UserError(f"{fspath(path)} is {KINDS.get(kind, 'not a regular file')}", remedy)
    if most is not None and about.st_size > most:
        raise UserError(f"{fspath(path)} has {about.st_size:,} bytes, more than the {most:,} that it may have", remedy)
    return about


def read_bytes(path: Place, most: int, remedy: str = "give a file") -> bytes:
    """The whole content of a file of at most `most` bytes. Raises as `regular` does."""
    size = regular(path, most, remedy).st_size
    with open(path, "rb") as file:
        return file.read(size)


def stamp(path: Place) -> tuple[int, int]:
    """The size of a file and its time of change, by which another file in its place is noticed; -1 if there is none."""
    try:
        about = os.stat(path)
    except OSError as error:
        if error.errno not in OF_PATHS:
            raise unread(fspath(path), error) from error
        return -1, -1
    return about.st_size, about.st_mtime_ns % (1 << 62)


def unchanged(path: Place, before: Iterable[int]) -> None:
    """Raises UserError if the file is no longer the one that had that `stamp`; one that is gone, its reader reports."""
    now = stamp(path)
    if now not in ((-1, -1), tuple(before)):
        raise UserError(
            f"{fspath(path)} has changed since it was found", "start again: training with --resume says if that matters"
        )


class Attentive(FileIO):
    """A file that raises the UserError of `unread` where the system fails: zipfile and others swallow OSErrors, or
    take them for damage. (EINVAL comes from offsets in damaged files.)"""

    def readinto(self, buffer: Any) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise unread(self.name, error) from error

    def readall(self) -> bytes:
        try:
            return super().readall()
        except OSError as error:
            raise unread(self.name, error) from error

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise
            raise unread(self.name, error) from error

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)

    def close(self) -> None:
        with suppress(OSError):  # what was read was read
            super().close()


def attentive(path: Place) -> BufferedReader:
    """The file, opened for reading: see Attentive. Raises OSError if it cannot be opened."""
    return BufferedReader(Attentive(fspath(path)))


def unpacked_most(size: int) -> int:
    """The bytes that a file of `size` compressed bytes may unpack to: more is a bomb."""
    return max(RATIO * size, FLOOR)
