"""What the file system of a folder can do, tried before work begins whose results go there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .atomic import beside, flush, unwritable


def preflight(folder: Path) -> list[str]:
    """What the folder's file system cannot do, each with what follows from it; empty for a usual one.

    Raises Unwritable where no file can be written and flushed to the disk. (Locks: see `locked`.)
    """
    first, second = beside(folder / "trial"), beside(folder / "trial")
    lacking = []
    try:
        first.write_bytes(b"a trial")
        flush(first)
        try:
            os.link(first, second)
        except OSError as error:
            lacking.append(
                f"the file system of {folder} has no hard links ({error.strerror}): a kill during a save may leave "
                "only the checkpoint before it"
            )
        try:
            flush(folder)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
            lacking.append(
                f"the file system of {folder} does not flush folders ({error.strerror}): the newest checkpoint may not "
                "survive a power failure"
            )
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)
    return lacking
