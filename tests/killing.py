"""A child process that is killed between two system calls."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any


def killed_before_call(n: int, links: bool, work: Callable[[], None]) -> int:
    """The exit status of a child that does the work, and is gone (status 9) before its n-th call of the system."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = [n]

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
            if name == "link" and not links:
                raise OSError(errno.EPERM, "no links here")
            return call(*args, **more)

        return stand_in

    try:
        for name in ("link", "replace", "fsync", "unlink", "open"):
            setattr(os, name, counted(name, getattr(os, name)))
        work()
        os._exit(0)
    finally:
        os._exit(1)
