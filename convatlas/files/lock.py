"""A lock on a folder: one process at a time writes to it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from ..errors import UserError, unread
from .atomic import unwritable

NAME = ".lock"
FLOCK = "hhqqi4x"  # struct flock on 64-bit Linux: type, whence, start, length, process
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # of a file system without locks
held: dict[Path, int] = {}  # by this process, each with a handle of its folder: locks do not exclude its own threads


class Gone(UserError):
    """The folder that this process had locked was deleted, or another is in its place."""


@dataclass(frozen=True)
class Holder:
    """The process that a lock file names: who holds the lock, or was killed while it did."""

    host: str
    process: int
    started: float  # seconds since 1970; with it, the number of a process that is gone is not taken for another's

    @classmethod
    def named_in(cls, handle: int) -> Holder | None:
        try:
            about = json.loads(os.pread(handle, 1000, 0))
            return cls(str(about["host"]), int(about["process"]), float(about["started"]))
        except (OSError, ValueError, TypeError, KeyError, OverflowError):
            return None

    @property
    def lives(self) -> bool | None:
        """Whether it still runs; None if it ran on another machine."""
        if self.host != platform.node():
            return None
        try:
            return abs(psutil.Process(self.process).create_time() - self.started) < 5
        except (psutil.Error, ValueError, OverflowError):
            return False


@contextmanager
def locked(folder: Path, work: str = "training in") -> Iterator[str]:
    """Holds the folder's lock. Raises UserError, naming the process and the `work`, when another process holds it.

    It is a POSIX lock on the file `.lock`: it is released when its process ends, however that happens, and child
    processes do not inherit it. So a killed process leaves nothing to clean up. Yields why the lock may not keep other
    processes out, or "": the file system has none, or the last holder was on another machine.
    """
    path = (folder / NAME).resolve()
    if path in held:
        raise taken(folder, os.getpid(), work)
    handle, doubt = acquire(path, folder, work)
    try:
        held[path] = os.open(folder, os.O_RDONLY)
    except OSError as error:
        os.close(handle)
        raise unwritable(path, error) from error
    try:
        yield doubt
    finally:
        with suppress(OSError):
            path.unlink()  # before the lock is released: a process that opened it meanwhile checks that it still exists
        for opened in (handle, held.pop(path)):
            with suppress(OSError):  # closed all the same
                os.close(opened)


def acquire(path: Path, folder: Path, work: str) -> tuple[int, str]:
    """A handle that holds the lock, and the doubt that `locked` yields."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            process = holder_of(handle)
            os.close(handle)
            if process == 0:  # released just now
                continue
            raise taken(folder, process, work) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(handle)
                raise unwritable(path, error) from error
            doubt = f"the file system of {folder} has no locks ({error.strerror}): "
        else:
            if not same(handle, path):
                os.close(handle)  # its last holder deleted it between the two steps
                continue
            doubt = ""
        last = Holder.named_in(handle)
        if doubt and last and last.lives:
            os.close(handle)
            raise taken(folder, last.process, work)
        if last and last.lives is None:
            doubt += f"{path} names process {last.process} of {last.host}: "
        with suppress(OSError):  # on a full disk it stays without a name
            me = Holder(platform.node(), os.getpid(), psutil.Process().create_time())
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(asdict(me)).encode(), 0)
        return handle, doubt and f"{doubt}make sure that no other process is {work} it"


def check_held(folder: Path) -> None:
    """Raises Gone unless the folder that this process has locked still has its name."""
    handle = held.get((folder / NAME).resolve())
    if handle is not None and not same(handle, folder):
        raise Gone(f"{folder} was deleted or replaced meanwhile, with all that was in it", "begin again")


def holder_of(handle: int) -> int:
    """The id of the process that holds the lock; 0 when none does any more, -1 when it is not known."""
    try:
        query = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, process = struct.unpack(FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, query))
    except (OSError, struct.error):
        last = Holder.named_in(handle)
        return last.process if last and last.lives else 0 if last and last.lives is False else -1
    return 0 if kind == fcntl.F_UNLCK else process or -1


def same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unread(path, error) from error


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
