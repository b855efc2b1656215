"""What the entries of the queue share: the session, how an entry says that it cannot run, and the machine."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(1, str(Path(__file__).parents[1]))  # benchmarks/, where the other benchmarks are

from report import processor, spread

from convatlas.data.types import Data, MemorySplit
from convatlas.version import VERSION

ROOT = Path(__file__).parents[2]
STOP_EARLIER_S = 20.0  # before the time is up: a training run then saves its checkpoint


class Skipped(Exception):
    """The entry cannot run in this session; the sentence says why. It stays in the queue."""


class Unfinished(Exception):
    """The time was up; the entry is continued in the next session."""


@dataclass(frozen=True)
class Session:
    """One call of run.py. `deadline` is in seconds of `time.monotonic`."""

    out: Path
    deadline: float
    device: torch.device
    dry_run: bool = False
    data: str | None = None  # CIFAR-10
    airbench: Path | None = None
    airbench_muon: Path | None = None
    graph: bool = True  # whether long training runs replay CUDA graphs where they can

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Entry:
    """One measurement. `measure` returns what its JSON file says besides name, machine and command.

    `minutes` is the estimated duration; a `resumable` entry takes as many sessions as it needs, and is begun when that
    many minutes are left.
    """

    name: str
    what: str
    minutes: float
    measure: Callable[[Session], dict[str, Any]]
    resumable: bool = False


def few_threads(dry_run: bool) -> None:
    """A dry run checks that everything runs, on a machine that may be busy: one thread is then the fastest."""
    if dry_run:
        torch.set_num_threads(1)


def summary(values: list[float]) -> dict[str, Any]:
    """Every single figure, with median, minimum, maximum and n."""
    return {**spread(values), "values": values}


def said(figures: dict[str, Any], digits: int = 2) -> str:
    """ "0.98 (0.97 to 0.99, n=5)"."""
    median, low, high = (f"{figures[key]:,.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} ({low} to {high}, n={figures['n']})"


@contextmanager
def stopped_in_time(session: Session) -> Iterator[None]:
    """Sends this process SIGTERM shortly before the deadline, as a user would to stop `fit` with a checkpoint."""
    seconds = max(session.seconds_left() - STOP_EARLIER_S, 0.1)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, _interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGTERM, before)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def synthetic(n: int, side: int, classes: int, seed: int = 0) -> Data:
    """`n` random uint8 images in memory for training and a few for the test after each epoch."""
    generator = torch.Generator().manual_seed(seed)

    def split(name: str, n: int) -> MemorySplit:
        pixels = torch.randint(256, (n, 3, side, side), dtype=torch.uint8, generator=generator)
        labels = torch.randint(classes, (n,), generator=generator)
        return MemorySplit(name, pixels, labels, tuple(map(str, range(classes))), {"source": "synthetic", "n": n})

    train, test = split("train", n), split("test", 16)
    return Data("synthetic", train, None, test, (3, side, side), (0.5,) * 3, (0.29,) * 3)


def describe_machine(device: torch.device, commit: str | None) -> dict[str, Any]:
    """What produced the figures; nothing that identifies the machine or its user."""
    versions = {
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "convatlas": VERSION,
        "commit": commit or commit_of_source(),
    }
    if device.type != "cuda":
        return {"processor": processor(), "cores": os.cpu_count(), **versions}
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return {
        "gpu": torch.cuda.get_device_name(device),
        "driver": (first_line(query) or "unknown").strip(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "processor": processor(),
        "cores": os.cpu_count(),
        **versions,
    }


def commit_of_source() -> str:
    commit = first_line(["git", "-C", str(ROOT), "rev-parse", "HEAD"])
    if commit is None:
        return "unknown"
    changed = first_line(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return f"{commit} with changes" if changed else commit


def first_line(command: list[str]) -> str | None:
    """Of what the command prints; empty if it prints nothing, None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.splitlines()), "")
