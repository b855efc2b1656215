"""How long calls take, compared side by side on a machine that may be busy.

The method. All calls are timed in interleaved rounds, so that what disturbs the machine disturbs each of them alike. A
call's time is the median of its rounds; two calls are compared by the ratios within rounds, from their 10th to their
90th percentile. What runs on one thread is timed in processor time, which other processes hardly change (wall time may
double); several threads have to be timed in wall time, which is only sound while the machine has cores to spare.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Call = Callable[[], object]
Clock = Literal["processor", "wall", "cuda"]
Timer = Callable[[Call], float]  # runs a call, and returns the seconds that it took

WARM_UP = 2  # calls of each that are not counted, before the first round; one where the seconds are over by then
LEAST, MOST = 5, 2000  # rounds
CACHED_S = 0.1  # a shorter call is run once, uncounted, before it is timed: the other calls have used the caches


@dataclass(frozen=True)
class Times:
    """Seconds of one call, by round."""

    seconds: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.seconds)

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def low(self) -> float:
        """Their 10th percentile."""
        return float(np.quantile(self.seconds, 0.1))

    @property
    def high(self) -> float:
        """Their 90th percentile."""
        return float(np.quantile(self.seconds, 0.9))

    def quantile(self, q: float) -> float | None:
        """The q-th quantile, q in [0.5, 1); None where the rounds are too few to have one: 20 for p95, 100 for p99."""
        return float(np.quantile(self.seconds, q)) if self.n * (1 - q) >= 1 - 1e-9 else None


@dataclass(frozen=True)
class Ratio:
    """How many times as long one call takes as another: the median of the ratios, and their p10 and p90."""

    median: float
    low: float
    high: float
    n: int


def processor_time(call: Call) -> float:
    """Of all threads of this process."""
    start = time.process_time()
    call()
    return time.process_time() - start


def wall_time(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cuda_time(call: Call) -> float:
    """On the current GPU's own clock, between events before and after the call; the time to reach it is not counted."""
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


TIMERS: dict[Clock, Timer] = {"processor": processor_time, "wall": wall_time, "cuda": cuda_time}


def clock_for(threads: int, device: str = "cpu") -> Clock:
    """Processor time for one thread, wall time for several, a GPU's events on a GPU."""
    if device.startswith("cuda"):
        return "cuda"
    return "processor" if threads == 1 else "wall"


def timer_for(threads: int, device: str = "cpu") -> Timer:
    return TIMERS[clock_for(threads, device)]


def rounds(
    calls: Sequence[Call],
    seconds: float,
    timer: Timer = processor_time,
    *,
    least: int = LEAST,
    most: int = MOST,
    now: Callable[[], float] = time.monotonic,
    tell: Callable[[int], None] = lambda done: None,
) -> list[Times]:
    """Times each call once a round, for as many rounds as fit in `seconds` of `now`: at least `least`, at most `most`.

    Every second round goes backwards, so that no call always follows the same one. `tell` hears how many are done.
    """
    end = now() + seconds
    for call in calls:
        for i in range(WARM_UP):
            if i == 0 or now() < end:
                call()
    found: list[list[float]] = [[] for _ in calls]
    for done in range(most):
        if done >= least and now() >= end:
            break
        order = range(len(calls))
        for i in reversed(order) if done % 2 else order:
            if len(calls) > 1 and done and found[i][-1] < CACHED_S:
                calls[i]()
            found[i].append(timer(calls[i]))
        tell(done + 1)
    return [Times(tuple(one)) for one in found]


def ratio(one: Times, other: Times) -> Ratio:
    """How many times as long `one` takes as `other`, from rounds that they were timed in together."""
    ratios = np.divide(one.seconds, other.seconds)
    low, median, high = map(float, np.quantile(ratios, (0.1, 0.5, 0.9)))
    return Ratio(median, low, high, len(ratios))
