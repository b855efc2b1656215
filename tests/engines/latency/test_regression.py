"""Non-negative regression against brute force; intervals against their closed form."""

from itertools import combinations

import numpy as np
import pytest

from convatlas.engines.latency.regression import conformal, fitted, least_relative, non_negative


def brute_force(table: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The best of the least-squares solutions on all subsets of the columns that are non-negative."""
    best, least = np.zeros(table.shape[1]), np.sum((weights * wanted) ** 2)
    for size in range(1, table.shape[1] + 1):
        for columns in map(list, combinations(range(table.shape[1]), size)):
            x, *_ = np.linalg.lstsq(table[:, columns] * weights[:, None], wanted * weights, rcond=None)
            error = np.sum((weights * (table[:, columns] @ x - wanted)) ** 2)
            if x.min() >= 0 and error < least:
                best, least = np.zeros(table.shape[1]), error
                best[columns] = x
    return best


@pytest.mark.parametrize("seed", range(20))
def test_non_negative_least_squares_are_the_best_of_all_subsets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, weights = rng.random((12, 5)) * 10.0 ** rng.integers(-6, 3, 5), rng.random(12) + 0.1
    wanted = table @ (rng.standard_normal(5) / table.max(axis=0)) + 0.1 * rng.random(12)
    assert non_negative(table, wanted, weights) == pytest.approx(brute_force(table, wanted, weights), rel=1e-6)


def test_what_is_a_sum_of_features_is_found() -> None:
    rng = np.random.default_rng(0)
    table, true = rng.random((60, 4)), np.array([2.0, 0.0, 0.5, 1e-3])
    assert least_relative(table, table @ true) == pytest.approx(true, abs=1e-8)


def test_a_few_wild_times_do_not_move_the_factors() -> None:
    rng = np.random.default_rng(1)
    table, true = rng.random((100, 3)) + 0.1, np.array([1.0, 2.0, 3.0])
    times = table @ true
    times[::20] *= 3  # something else ran
    assert least_relative(table, times) == pytest.approx(true, rel=0.01)


def test_intervals_hold_what_their_order_statistics_say() -> None:
    """Of n residuals and a new one, all from one distribution, the new one lies between the k-th lowest and highest in
    (n + 1 - 2k) / (n + 1) of all cases, whatever the distribution."""
    rng = np.random.default_rng(2)
    n, cases = 99, 4000
    residuals = rng.gamma(2.0, size=(cases, n + 1))
    bounds = np.array([conformal(one[:n], 0.9) for one in residuals])
    inside = (bounds[:, 0] < residuals[:, n]) & (residuals[:, n] < bounds[:, 1])
    assert inside.mean() == pytest.approx((n + 1 - 2 * 5) / (n + 1), abs=4 * np.sqrt(0.09 / cases))


def test_too_few_residuals_have_no_interval() -> None:
    assert conformal(np.zeros(18), 0.9) == (-np.inf, np.inf)
    assert conformal(np.arange(19.0), 0.9) == (0.0, 18.0)


def test_a_regression_predicts_new_times_within_its_interval() -> None:
    rng = np.random.default_rng(3)
    found = [{"macs": rng.random() + 0.1, "bytes": rng.random()} for _ in range(400)]
    times = [(3 * one["macs"] + one["bytes"]) * np.exp(0.1 * rng.standard_normal()) for one in found]
    made = fitted(found[:200], times[:200])
    assert made.seconds == pytest.approx({"macs": 3, "bytes": 1}, rel=0.15)
    ratios = np.array(times[200:]) / [made.estimate(one) for one in found[200:]]
    assert 0.9 < np.mean((made.low < ratios) & (ratios < made.high)) < 0.99
    assert np.log([made.low, made.high]) == pytest.approx([-0.196, 0.196], abs=0.05)
