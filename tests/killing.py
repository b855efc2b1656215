"""Child processes that are killed between two system calls."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


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


def killed_before_touch(n: int, folder: Path, work: Callable[[], int]) -> tuple[int, int]:
    """The exit status of a child that does the work, and how often it touched the folder.

    It is gone (status 9) before the n-th time that Python opens, makes, lists, links, renames or removes something at
    or below the folder, or flushes anything.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with open(reading, "rb") as touches:
            touched = len(touches.read())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), touched
    left, fsync = [n], os.fsync

    def touch() -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)
        os.write(writing, b".")

    def heard(event: str, arguments: tuple[object, ...]) -> None:
        if any(isinstance(it, str | Path) and f"{it}/".startswith(f"{folder}/") for it in arguments):
            touch()

    def flushing(handle: int) -> None:
        touch()
        fsync(handle)

    try:
        torch.set_num_threads(1)  # makes torch's threads anew, before two of ours do so at once
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.addaudithook(heard)
        os.fsync = flushing
        os._exit(work())
    finally:
        os._exit(1)
