"""Times as sums of features with non-negative factors, and how far off such a sum may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .features import Features

FOLDS = 10
STEPS = 8  # of reweighting
LEAST_ERROR = 0.05  # relative; smaller ones all weigh alike
COVERAGE = 0.95  # of chains: about 9 of 10 networks, which are less like chains than chains are


@dataclass(frozen=True)
class Regression:
    """Seconds a unit of each feature, and the factors from an estimate to its interval's ends."""

    seconds: dict[str, float]
    low: float
    high: float

    def estimate(self, features: Features) -> float:
        return sum(self.seconds.get(name, 0.0) * amount for name, amount in features.items())


def fitted(found: Sequence[Features], times: Sequence[float]) -> Regression:
    """The regression of times on features, by the least sum of relative errors.

    The interval is conformal: each time is compared with what the other folds predict, and COVERAGE of what comes from
    the same distribution lies within the factors that hold for COVERAGE of these, corrected for their number.
    """
    names = sorted({name for one in found for name in one})
    table = np.array([[one.get(name, 0.0) for name in names] for one in found])
    seconds = np.asarray(times, float)
    factors = least_relative(table, seconds)
    low, high = conformal(np.log(seconds / out_of_fold(table, seconds)), COVERAGE)
    return Regression(dict(zip(names, map(float, factors), strict=True)), float(np.exp(low)), float(np.exp(high)))


def least_relative(table: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Non-negative x with the least sum of |table @ x / times - 1|, by reweighted least squares."""
    weights = np.ones_like(times)
    for _ in range(STEPS):
        x = non_negative(table / times[:, None], np.ones_like(times), weights)
        weights = 1 / np.sqrt(np.maximum(np.abs(table @ x / times - 1), LEAST_ERROR))
    return x


def non_negative(table: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Non-negative x with the least |weights * (table @ x - wanted)|."""
    from scipy.optimize import nnls

    scale = np.maximum(np.abs(table).max(axis=0), np.finfo(float).tiny)
    x, _ = nnls(table / scale * weights[:, None], wanted * weights, maxiter=100 * table.shape[1])
    return np.asarray(x / scale)


def out_of_fold(table: np.ndarray, times: np.ndarray) -> np.ndarray:
    """What a fit to the other folds predicts of each."""
    fold = np.arange(len(times)) % FOLDS
    predicted = np.empty_like(times)
    for k in range(min(FOLDS, len(times))):
        x = least_relative(table[fold != k], times[fold != k])
        predicted[fold == k] = table[fold == k] @ x
    return np.maximum(predicted, np.finfo(float).tiny)


def conformal(residuals: np.ndarray, coverage: float) -> tuple[float, float]:
    """Bounds of a new residual from the same distribution: below each lies half of what `coverage` leaves.

    They are order statistics, the k-th lowest and highest with k = floor((n + 1) (1 - coverage) / 2), and infinite
    where there are too few residuals for any.
    """
    ordered = np.sort(residuals)
    k = int(np.floor((len(ordered) + 1) * (1 - coverage) / 2 + 1e-9))
    return (float(ordered[k - 1]), float(ordered[-k])) if k else (-np.inf, np.inf)
