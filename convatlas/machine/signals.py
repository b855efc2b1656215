"""SIGINT, SIGTERM and SIGHUP, handled only at points where training can stop cleanly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, kill, and a closed terminal


class Signals:
    """`with Signals() as signals`: the first signal is recorded in `signals.caught`, for the loop to check.

    Inside `with signals.at_once()` it raises KeyboardInterrupt as well. Later signals are ignored, since stopping takes
    only seconds. Under nohup, SIGHUP stays ignored. Outside the main thread, which alone receives signals, this does
    nothing.
    """

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self.raising = False
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            wanted = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
            self.before = {number: signal.signal(number, self.handle) for number in wanted}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, number: int, _: FrameType | None) -> None:
        if self.caught is None:
            self.caught = signal.Signals(number)
            if self.raising:
                raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        self.raising = True
        try:
            if self.caught is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self.raising = False
