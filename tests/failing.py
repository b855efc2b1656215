"""Verbs run again and again, each time with one call of the system, or one allocation, that fails.

`Failing` starts a process of its own, in which the C library's calls go through tests/failing.c; it imports everything
once, and forks a child for each run. Only calls on what lies below its folder count.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_suffix(".c")
SECONDS = 60  # a run that takes longer hangs


class Page(ctypes.Structure):
    """`struct shared` of failing.c."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("calls", "allocations", "fail_call", "fail_allocation", "error")),
        *((name, ctypes.c_long) for name in ("lasting", "at_least", "failed")),
        ("what", ctypes.c_char * 512),
    ]


@dataclass(frozen=True)
class Fault:
    """The call or the allocation (from 1 on) that fails, with which errno, and whether all that follow do, too."""

    call: int = 0
    allocation: int = 0
    error: int = 0
    lasting: bool = False
    at_least: int = 0  # bytes; smaller allocations do not count, and with 0 none does


@dataclass(frozen=True)
class Ran:
    """What came of a run."""

    words: tuple[str, ...]
    status: int  # negative: the signal that ended it
    out: str
    err: str
    calls: int
    allocations: int
    failed: int  # how many calls or allocations did
    what: str  # the first of them


class Failing:
    """`with Failing(folder) as failing`: runs verbs on what is below `folder`."""

    def __init__(self, folder: Path, **environment: str):
        library = folder / "failing.so"
        if shutil.which("cc") is None:
            raise FileNotFoundError("there is no C compiler, cc")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"], check=True)
        (folder / "tmp").mkdir()
        (folder / "below").mkdir()
        self.folder = folder / "below"
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.failing", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "LD_PRELOAD": str(library), "FAILING_BELOW": str(self.folder), "OMP_NUM_THREADS": "1"}
            | {"TMPDIR": str(folder / "tmp"), **environment},
            text=True,
        )

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # closes its input, at which it ends

    def asked(self, **question: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def warm(self, *words: object) -> None:
        """Runs a verb in the process itself, so that its children have everything imported."""
        assert self.asked(warm=[str(word) for word in words]) == 0, words

    def run(self, *words: object, fault: Fault = Fault()) -> Ran:
        text = tuple(str(word) for word in words)
        return Ran(text, **self.asked(run=text, fault=asdict(fault)))


def serve(folder: Path) -> None:
    """Answers the questions on standard input."""
    import torch
    from matplotlib.figure import Figure

    from convatlas.cli import main

    torch.set_num_threads(1)
    Figure.savefig = lambda _, path, **__: Path(path).write_bytes(b"a picture")  # drawing takes longer than all else
    library = ctypes.CDLL(None)
    library.failing.restype = ctypes.POINTER(Page)
    page = library.failing().contents
    answers, nothing = os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    for line in sys.stdin:
        question = json.loads(line)
        answer = main(question["warm"]) if "warm" in question else in_child(folder, page, main, question)
        os.write(answers, (json.dumps(answer) + "\n").encode())
    os._exit(0)  # at once


def in_child(folder: Path, page: Page, main: Any, question: dict[str, Any]) -> dict[str, Any]:
    fault = question["fault"]
    for name, _ in Page._fields_:
        setattr(page, name, b"" if name == "what" else 0)
    page.error, page.lasting = fault["error"], fault["lasting"]
    out, err = (folder / "tmp" / name for name in ("out", "err"))
    child = os.fork()
    if child == 0:
        status = 99
        try:
            signal.alarm(SECONDS)
            for number, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            page.calls = page.allocations = 0
            page.fail_call, page.fail_allocation, page.at_least = fault["call"], fault["allocation"], fault["at_least"]
            status = main(question["run"])
            if sys.stdout is not None:
                sys.stdout.flush()
        except BaseException:
            page.at_least = page.fail_call = 0
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {
        "status": status,
        "out": out.read_text(errors="replace"),
        "err": err.read_text(errors="replace"),
        **{name: getattr(page, name) for name in ("calls", "allocations", "failed")},
        "what": page.what.decode(errors="replace"),
    }


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
