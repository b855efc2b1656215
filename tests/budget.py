"""A reader in a child process that may use only so much memory and time."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from convatlas.errors import UserError

MB = 1 << 20
READ, REFUSED, FAILED = 0, 3, 4  # the child's exit statuses


def within(read: Callable[[], object], *, mb: int = 256, seconds: int = 5) -> str:
    """What the UserError says that `read` ends in; empty if it reads.

    The child has `mb` more address space than this process has now (RLIMIT_AS), and `seconds` of the processor
    (RLIMIT_CPU) and twice as many on the clock. Raises AssertionError if that is not enough, even where the reader
    makes an error of its own of the lack of memory, and if it raises anything but a UserError.
    """
    here, there = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside idle threads
        child = os.fork()
    if not child:
        os.close(here)
        limited_child(read, there, mb, seconds)
    os.close(there)
    with os.fdopen(here, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (READ, REFUSED), f"it did not keep to {mb} MB and {seconds} s (status {status}): {said}"
    return said


def limited_child(read: Callable[[], object], there: int, mb: int, seconds: int) -> None:
    status, said = FAILED, ""
    try:
        ctypes.CDLL(None).mallopt(-8, 1)  # one arena for all threads: each would reserve 64 MB or more
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(2 * seconds)
        limit(resource.RLIMIT_AS, address_space() + mb * MB)
        try:
            read()
            status = READ
        except UserError as error:
            short = any(isinstance(cause, MemoryError) for cause in causes(error))
            status, said = (FAILED, f"out of memory: {error}") if short else (REFUSED, str(error))
        except BaseException:
            said = traceback.format_exc(limit=-4)
        os.write(there, said.encode(errors="replace")[:60_000])
    finally:
        os._exit(status)


def limit(kind: int, value: int) -> None:
    resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def address_space() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
