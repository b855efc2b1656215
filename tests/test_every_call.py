"""Each call of the system that a verb makes fails once, in turn: nothing is lost, and the next run ends as it should.

As SQLite is tested: each time the verb ends as without a fault, or names what failed in one line. A sample of the
calls here; `make test-faults` has all of them, and allocations drawn at random.
"""

from __future__ import annotations

import errno
import platform
import random
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.failing import Failing, Fault
from tests.works import OTHER, SMALLEST, Trials, works


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    if shutil.which("cc") is None or platform.libc_ver()[0] != "glibc":
        pytest.skip("this needs a C compiler, cc, and glibc")
    with Failing(tmp_path_factory.mktemp("calls")) as failing:
        yield Trials(failing)


def all_wrong(trials: Trials, name: str, faults: Iterable[Fault]) -> list[str]:
    """What is wrong, and with which fault."""
    found = []
    for fault in faults:
        ran, wrong = trials.wrong(name, fault)
        if wrong:
            found.append(f"{name}, {fault}, {ran.what}: {wrong}, {ran.err}")
    return found


NAMES = [*works(Path())]


@pytest.mark.parametrize("name", ["train", "resume", "pack jpeg", "doctor of weights"])
def test_a_call_that_fails(trials: Trials, name: str) -> None:
    calls = random.Random(name).sample(range(1, trials.whole(name)[0].calls + 1), 4)
    assert all_wrong(trials, name, [Fault(call, error=errno.EIO) for call in calls]) == []


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMES)
def test_every_call_fails_once(trials: Trials, name: str) -> None:
    calls = range(1, trials.whole(name)[0].calls + 1)
    assert all_wrong(trials, name, [Fault(call, error=errno.EIO) for call in calls]) == []


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMES)
def test_every_fifth_call_and_all_after_it_fail(trials: Trials, name: str) -> None:
    calls = range(1, trials.whole(name)[0].calls + 1, 5)
    assert all_wrong(trials, name, [Fault(call, error=errno.EIO, lasting=True) for call in calls]) == []


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMES)
def test_every_fifth_call_fails_otherwise(trials: Trials, name: str) -> None:
    """With the error that is likely besides EIO: EMFILE of open, ENOSPC of write."""
    faults = []
    for call in range(1, trials.whole(name)[0].calls + 1, 5):
        trials.lay_out(name)
        kind = trials.run(name, Fault(call, error=errno.EIO)).what.partition(" ")[0]
        if kind in OTHER:
            faults.append(Fault(call, error=OTHER[kind]))
    assert all_wrong(trials, name, faults) == []


@pytest.mark.faults
@pytest.mark.parametrize("name", ["train", "resume", "pack jpeg", "pack raw"])
def test_a_kill_before_every_third_call(trials: Trials, name: str) -> None:
    calls = range(1, trials.whole(name)[0].calls + 1, 3)
    assert all_wrong(trials, name, [Fault(call, error=-signal.SIGKILL) for call in calls]) == []


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_allocations_fail(trials: Trials, name: str) -> None:
    trials.lay_out(name)
    count = trials.run(name, Fault(at_least=SMALLEST)).allocations
    chosen = random.Random(name).sample(range(1, count + 1), min(count, 100))
    assert all_wrong(trials, name, [Fault(allocation=n, at_least=SMALLEST) for n in chosen]) == []
