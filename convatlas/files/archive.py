"""Unpacking untrusted archives: plain files and folders, inside one folder, within limits; or nothing at all."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ..errors import UserError, pass_on
from .regular import attentive

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
MAX_BYTES = 64 << 30
MAX_RATIO, SPARE = 100, 1 << 30  # bytes unpacked for each byte of the archive, and beside them
MAX_ENTRIES = 4_000_000  # files and folders
LEAST_ENTRY, FEW = 64, 1000  # bytes that each takes in an archive, but for so many
MAX_DEPTH, MAX_NAME = 64, 255  # folders within each other; bytes of a name
MAX_HEADER = 1 << 14  # bytes before a file in a tar
MAX_READ = 1 << 20  # bytes at a time: only a forged header asks for more
OPENERS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


class Hostile(Exception):
    """The archive contains something that a legitimate one does not; the message says what."""


def unpack(archive: str | Path, into: str | Path, max_bytes: int = MAX_BYTES) -> Path:
    """Unpacks a tar (plain, .gz, .bz2, .xz) or zip file; returns `into`, which must not exist yet.

    Everything is unpacked to a temporary folder and renamed, so that `into` is complete or does not exist. Raises
    UserError for anything but plain files and folders, for names that are absolute, contain ".." or occur twice
    (ignoring case), for more than `max_bytes`, for more bytes or entries than an archive of its size can have, and for
    a damaged archive. Owners, modes and times are ignored.
    """
    archive, into = Path(archive), Path(into)
    if os.path.lexists(into):
        raise UserError(f"{into} already exists", "remove it, or unpack to another folder")
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{into.name}.", suffix=".new", dir=into.parent))
        try:
            size = archive.stat().st_size
            max_bytes = min(max_bytes, SPARE + MAX_RATIO * size)
            write(members(archive, max_bytes), new, max_bytes, min(MAX_ENTRIES, FEW + size // LEAST_ENTRY))
            os.rename(new, into)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except UserError:
        raise
    except Hostile as error:
        raise UserError(f"{archive} {error}", "nothing was unpacked; use a trusted copy") from error
    except Exception as error:  # damaged archives make the readers raise anything
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            what = f"{archive} cannot be unpacked to {into} ({error.strerror})"
            raise UserError(what, "nothing was unpacked: free disk space or fix the permissions") from error
        pass_on(archive, error)
        raise UserError(f"{archive} cannot be unpacked ({error})", "download it again") from error
    return into


Member = tuple[str, IO[bytes] | None]  # a name, and its content; None for a folder


def write(parts: Iterable[Member], new: Path, max_bytes: int, max_entries: int) -> None:
    """Writes the files and folders, each counted with the folders that it is in."""
    seen: set[str] = set()
    folders: set[PurePosixPath] = set()
    size = 0
    for entries, (name, content) in enumerate(parts):
        path = checked(name)
        if content is not None:
            if not path.parts or path.as_posix().casefold() in seen:
                raise Hostile(f"contains {name[:60]!r} twice")
            seen.add(path.as_posix().casefold())
        folders.update(path.parents if content is not None else (path, *path.parents))
        if entries + len(folders) > max_entries:
            raise Hostile(f"contains more files and folders than the {max_entries:,} allowed for its size")
        if content is None:
            continue
        (new / path.parent).mkdir(parents=True, exist_ok=True)
        with (new / path).open("xb") as file:
            while part := content.read(MAX_READ):
                size += len(part)
                if size > max_bytes:
                    raise Hostile(f"unpacks to more than the {max_bytes:,} bytes allowed")
                file.write(part)
    for folder in folders:  # the empty ones, once all have been counted
        (new / folder).mkdir(parents=True, exist_ok=True)


def checked(name: str) -> PurePosixPath:
    """The path of a member. Raises Hostile for one that leads outside the folder, and for one too long or deep."""
    path = PurePosixPath(name)
    if "\\" in name or "\0" in name or path.is_absolute() or ".." in path.parts or ":" in name:
        raise Hostile(f"contains the name {name[:60]!r}, which leads outside the folder")
    if len(path.parts) > MAX_DEPTH or any(len(os.fsencode(part)) > MAX_NAME for part in path.parts):
        raise Hostile(f"contains the name {name[:60]!r}..., which is too long or too deep")
    return path


def members(archive: Path, max_bytes: int) -> Iterator[Member]:
    with attentive(archive) as raw:
        yield from (zip_members if zipfile.is_zipfile(raw) else tar_members)(raw, max_bytes)


def zip_members(raw: IO[bytes], max_bytes: int) -> Iterator[Member]:
    with zipfile.ZipFile(raw) as file:
        infos = file.infolist()
        if sum(info.file_size for info in infos) > max_bytes:
            raise Hostile(f"unpacks to more than the {max_bytes:,} bytes allowed")
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Hostile(f"contains {info.filename[:60]!r}, which is neither a file nor a folder")
            if info.is_dir():
                yield info.filename, None
            else:
                with file.open(info) as content:
                    yield info.filename, content


def tar_members(raw: IO[bytes], max_bytes: int) -> Iterator[Member]:
    raw.seek(0)
    opener: Any = OPENERS.get(raw.read(2))
    raw.seek(0)
    plain = opener(raw) if opener else raw
    with plain, tarfile.open(fileobj=Limited(plain, max_bytes), mode="r:") as file:
        for info in file:
            if not (info.isreg() or info.isdir()) or info.issparse():
                raise Hostile(f"contains {info.name[:60]!r}, which is neither a file nor a folder")
            if info.size > max_bytes:
                raise Hostile(f"unpacks to more than the {max_bytes:,} bytes allowed")
            if info.offset_data - info.offset > MAX_HEADER or len(file.pax_headers) > MAX_HEADER >> 8:
                raise Hostile(f"contains {info.name[:60]!r} with a header of more than {MAX_HEADER:,} bytes")
            yield info.name, None if info.isdir() else file.extractfile(info)
            vars(file)["members"].clear()  # tarfile would keep them all


class Limited(io.RawIOBase):
    """A stream read up to a limit, and never in the huge pieces that a forged header asks for."""

    def __init__(self, plain: Any, max_bytes: int):
        self.plain, self.limit = plain, 2 * max_bytes + (1 << 24)  # headers and padding count as well

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.plain.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence != 0 or offset > self.limit:
            raise Hostile("is too large")
        return self.plain.seek(offset)

    def read(self, n: int = -1) -> bytes:
        if n < 0 or n > MAX_READ or self.plain.tell() > self.limit:
            raise Hostile("is too large")
        return self.plain.read(n)
