"""Intervals of differences, against their closed forms."""

from math import sqrt

import numpy as np
import pytest
from scipy.stats import t

from convatlas.tuning.intervals import paired_interval, repeated_interval


def test_of_repeated_folds_is_wider_than_of_independent_ones() -> None:
    differences = list(np.random.default_rng(0).normal(0.02, 0.03, 10))
    centre, (low, high) = repeated_interval(differences, folds=5)
    assert centre == pytest.approx(np.mean(differences))
    naive = t.ppf(0.975, 9) * np.std(differences, ddof=1) / sqrt(10)
    assert (high - low) / 2 == pytest.approx(naive * sqrt(1 + 10 / 4))  # 1/10 + 1/4 is 1/10 times this


def test_equal_differences_leave_no_doubt() -> None:
    assert repeated_interval([0.01] * 10, folds=5)[1] == pytest.approx((0.01, 0.01))


def test_paired_covers_as_often_as_it_says() -> None:
    """Two models that are right independently, 80 and 90%: 95% of intervals hold the difference of 10 points."""
    random, n = np.random.default_rng(1), 100
    held = 0
    for _ in range(2000):
        a, b = random.random(n) < 0.8, random.random(n) < 0.9
        _, (low, high) = paired_interval(int((a & ~b).sum()), int((b & ~a).sum()), n)
        held += low <= 0.1 <= high
    assert 0.935 < held / 2000 < 0.97


def test_equal_models_differ_by_nothing() -> None:
    difference, (low, high) = paired_interval(3, 3, 50)
    assert difference == 0
    assert low == pytest.approx(-high)
    assert low < 0
