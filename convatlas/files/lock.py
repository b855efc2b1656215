"""A lock on a folder: one process at a time writes to it."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UserError
from .atomic import unwritable

NAME = ".lock"
FLOCK = "hhqqi4x"  # struct flock on 64-bit Linux: type, whence, start, length, process
held: set[Path] = set()  # by this process: the system's locks do not exclude its own threads


@contextmanager
def locked(folder: Path, work: str = "training in") -> Iterator[None]:
    """Holds the folder's lock. Raises UserError, naming the process and the `work`, when another process holds it.

    It is a POSIX lock on the file `.lock`: it is released when its process ends, however that happens, and child
    processes do not inherit it. So a killed process leaves nothing to clean up.
    """
    path = (folder / NAME).resolve()
    if path in held:
        raise taken(folder, os.getpid(), work)
    handle = acquire(path, folder, work)
    held.add(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before the lock is released: a process that opened it meanwhile checks that it still exists
        os.close(handle)
        held.discard(path)


def acquire(path: Path, folder: Path, work: str) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            holder = holder_of(handle)
            os.close(handle)
            if holder == 0:  # released just now
                continue
            raise taken(folder, holder, work) from error
        except OSError:  # a file system without locks
            return handle
        if same_file(handle, path):
            return handle
        os.close(handle)  # its last holder deleted it between the two steps


def holder_of(handle: int) -> int:
    """The id of the process that holds the lock; 0 when none does any more, -1 when the system does not say."""
    try:
        query = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, process = struct.unpack(FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, query))
    except (OSError, struct.error):
        return -1
    return 0 if kind == fcntl.F_UNLCK else process or -1


def same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def taken(folder: Path, process: int, work: str) -> UserError:
    who = f"process {process}" if process > 0 else "another process"
    return UserError(f"{who} is {work} {folder}", "wait for it, stop it, or give another --out")


def holder(folder: Path) -> int:
    """The id of the process that is training in the folder; 0 when there is none, -1 when it is unknown."""
    if (folder / NAME).resolve() in held:  # closing the file here would release the lock
        return os.getpid()
    try:
        handle = os.open(folder / NAME, os.O_RDWR)
    except OSError:
        return 0
    try:
        return holder_of(handle)
    finally:
        os.close(handle)
