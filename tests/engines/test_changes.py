"""New results beside old ones: what counts as slower, and which are compared."""

from __future__ import annotations

import random

import numpy as np
import pytest

from convatlas.engines.changes import changed, changes, unlike
from convatlas.engines.results import Record, Seconds
from convatlas.errors import UserError
from tests.engines.records import MACHINE, record

ELSEWHERE = {**MACHINE, "processor": "Another", "cores": 64}
FAILED = record(seconds=None, failed="out of memory")


def test_a_ratio_and_its_interval_by_hand() -> None:
    """Both spreads are 10%, independent: together 14%."""
    new = record(seconds=Seconds("processor", 20, 2, 0.2 / 1.1, 0.2, 0.2 * 1.1))
    old = record(seconds=Seconds("processor", 20, 2, 0.1 / 1.1, 0.1, 0.1 * 1.1))
    found = changed(new, old)
    assert found.ratio == pytest.approx(2)
    assert found.low == pytest.approx(2 / 1.1 ** (2**0.5))
    assert found.high == pytest.approx(2 * 1.1 ** (2**0.5))


def test_the_interval_is_that_of_ratios_of_independent_draws() -> None:
    draw = random.Random(0)
    a, b = ([draw.lognormvariate(0, 0.1) * k for _ in range(20_000)] for k in (1.3, 1.0))

    def drawn(values: list[float]) -> Record:
        return record(seconds=Seconds("processor", len(values), 2, *map(float, np.quantile(values, (0.1, 0.5, 0.9)))))

    found = changed(drawn(a), drawn(b))
    expected = np.quantile(np.divide(a, b), (0.1, 0.5, 0.9))
    assert [found.low, found.ratio, found.high] == pytest.approx(list(expected), rel=0.01)


@pytest.mark.parametrize(
    ("new", "spread", "slower"),
    [
        (0.100, 0.01, False),
        (0.104, 0.001, False),  # slower, by less than 5%
        (0.107, 0.001, True),
        (0.107, 0.05, False),  # by more, but not surely
        (0.120, 0.05, True),
        (0.050, 0.001, False),  # faster
    ],
)
def test_slower_is_by_more_than_the_share_and_surely(new: float, spread: float, slower: bool) -> None:
    assert changed(record(new, spread), record(0.1, spread)).slower_than(0.05) is slower


def test_what_no_longer_runs_is_slower() -> None:
    assert changed(FAILED, record()).slower_than(0.05)
    assert not changed(FAILED, FAILED).slower_than(0.05)
    assert not changed(record(), FAILED).slower_than(0.05)


def test_equal_keys_are_compared_with_the_last_of_the_same_machine() -> None:
    old = [
        record(0.3, date="2026-01-02T00:00:00Z"),
        record(0.2, date="2026-01-01T00:00:00Z"),
        record(0.9, machine=ELSEWHERE, date="2026-01-03T00:00:00Z"),
        record(0.9, batch=2),
        record(0.9, threads=2),
        record(0.9, model="lenet5_tanh"),
        record(0.9, seconds=Seconds("wall", mean=0.5), source="timm"),
    ]
    (found,) = changes([record(), record(batch=64)], old)
    assert found.old == old[0]


def test_results_of_another_machine_are_refused_unless_asked_for() -> None:
    with pytest.raises(UserError, match=r"of another machine \(Another, 64 cores\); .* --other-machine"):
        changes([record()], [record(machine=ELSEWHERE)])
    (found,) = changes([record()], [record(machine=ELSEWHERE)], other_machine=True)
    assert unlike(found.new, found.old) == "another machine: Another then, Some Processor now"
    updated = record(machine={**MACHINE, "versions": {"torch": "2.14.0"}})
    (found,) = changes([updated], [record()])
    assert unlike(found.new, found.old) == "torch 2.13.0 then, 2.14.0 now"


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(UserError, match="no old result has the same model"):
        changes([record()], [record(batch=2)])
