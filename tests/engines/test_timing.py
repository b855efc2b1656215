"""The method on a clock that the test turns (order, medians, quantiles, ratios), then on a real one."""

import os
import random
import statistics
import subprocess
import sys
import threading
import time

import pytest

from convatlas.engines import timing
from convatlas.engines.timing import Times, ratio, rounds


class Clock:
    """A clock that only the calls turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def call(self, name: str, *seconds: float) -> timing.Call:
        """A call that takes these seconds, again and again."""
        turn = 0

        def run() -> None:
            nonlocal turn
            self.ran.append(name)
            self.now += seconds[turn % len(seconds)]
            turn += 1

        return run

    def timer(self, call: timing.Call) -> float:
        start = self.now
        call()
        return self.now - start


def test_rounds_interleave_and_every_second_one_goes_backwards() -> None:
    clock = Clock()
    calls = [clock.call(name, 1.0) for name in "abc"]
    rounds(calls, 0, clock.timer, least=3, now=lambda: clock.now)
    assert "".join(clock.ran) == "abc" + "abc" + "cba" + "abc"  # warmed up once: the seconds were over


def test_two_calls_warm_up_while_there_is_time() -> None:
    clock = Clock()
    found = rounds(
        [clock.call("a", 9.0, 8.0, 1.0, 2.0, 3.0, 4.0, 5.0)], 20, clock.timer, least=2, now=lambda: clock.now
    )
    assert found == [Times((1.0, 2.0))]


def test_the_budget_of_seconds_ends_the_rounds() -> None:
    clock = Clock()
    (a, b) = rounds([clock.call("a", 1.0), clock.call("b", 2.0)], 36, clock.timer, now=lambda: clock.now)
    assert (a.n, b.n) == (10, 10)  # 6 s of warm-up, then 3 s a round
    (a,) = rounds([clock.call("a", 1.0)], 3, clock.timer, now=lambda: clock.now)
    assert a.n == timing.LEAST
    (a,) = rounds([clock.call("a", 1.0)], 1e9, clock.timer, most=7, now=lambda: clock.now)
    assert a.n == 7


def test_a_short_call_runs_once_uncounted_after_others() -> None:
    """The first run after another network finds the caches full of that one's weights."""
    clock = Clock()
    short, long = clock.call("s", 0.008, 0.001), clock.call("l", 1.0)
    found = rounds([short, long], 0, clock.timer, least=3, now=lambda: clock.now)
    assert "".join(clock.ran) == "sl" + "sl" + "lss" + "ssl"
    assert found[0].seconds[1:] == pytest.approx((0.001, 0.001))
    clock.ran.clear()
    rounds([clock.call("s", 0.001)], 0, clock.timer, least=3, now=lambda: clock.now)
    assert "".join(clock.ran) == "s" + "sss"  # alone it has the caches for itself


def test_progress_is_told() -> None:
    told: list[int] = []
    rounds([lambda: None], 0, lambda call: 1.0, least=3, tell=told.append)
    assert told == [1, 2, 3]


@pytest.mark.parametrize("n", [5, 19, 20, 99, 100, 257])
def test_medians_and_quantiles_are_those_of_another_program(n: int) -> None:
    seconds = tuple(random.Random(n).uniform(1, 2) for _ in range(n))
    times = Times(seconds)
    assert times.median == pytest.approx(statistics.median(seconds))
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    assert times.quantile(0.95) == (pytest.approx(cuts[94]) if n >= 20 else None)
    assert times.quantile(0.99) == (pytest.approx(cuts[98]) if n >= 100 else None)


def test_ratios_are_within_rounds() -> None:
    """A machine that slows down tenfold for a while slows both: their ratio hardly moves."""
    draw = random.Random(0)
    weather = [draw.choice([1.0, 1.0, 3.0, 10.0]) for _ in range(400)]
    a = Times(tuple(2.0 * w * draw.uniform(0.95, 1.05) for w in weather))
    b = Times(tuple(1.0 * w * draw.uniform(0.95, 1.05) for w in weather))
    found = ratio(a, b)
    assert found.n == 400
    assert found.median == pytest.approx(2, rel=0.01)
    assert 1.85 < found.low < found.median < found.high < 2.15


def test_a_ratio_by_hand() -> None:
    found = ratio(Times((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0)), Times((1.0,) * 11))
    assert (found.low, found.median, found.high, found.n) == (pytest.approx(2), 6, pytest.approx(10), 11)


def test_times_of_unequal_rounds_are_not_compared() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        ratio(Times((1.0, 2.0)), Times((1.0, 2.0, 3.0)))


def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_processor_time_counts_all_threads_and_no_waiting() -> None:
    """An engine computes in threads of its own: what they take is the call's."""

    def call() -> None:
        thread = threading.Thread(target=busy, args=(0.03,))
        thread.start()
        thread.join()
        time.sleep(0.1)

    assert 0.03 <= timing.processor_time(call) < 0.06
    assert timing.wall_time(call) > 0.13


def test_processor_time_hardly_sees_other_processes() -> None:
    """Twice as many processes as the machine has cores: the call's wall time suffers, its processor time does not."""
    code = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        time.sleep(0.2)
        (found,) = rounds([lambda: busy(0.02)], 0, timing.processor_time)
        (wall,) = rounds([lambda: busy(0.02)], 0, timing.wall_time)
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert found.median == pytest.approx(0.02, rel=0.05)
    assert wall.median > found.median


def test_what_is_timed_how() -> None:
    assert timing.timer_for(1) is timing.processor_time
    assert timing.timer_for(4) is timing.wall_time
    assert timing.timer_for(1, "cuda:1") is timing.cuda_time
