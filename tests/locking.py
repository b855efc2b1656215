"""Another process that holds the lock of a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HOLD = """
import os, sys
from pathlib import Path
from convatlas.files.lock import locked
with locked(Path(sys.argv[1])):
    if len(sys.argv) > 2 and not os.fork():
        sys.stdin.read()
        os._exit(0)
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


def holding(folder: Path, *more: str) -> subprocess.Popen[str]:
    """Another process that holds the lock until its standard input ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert int(child.stdout.readline()) == child.pid
    return child
