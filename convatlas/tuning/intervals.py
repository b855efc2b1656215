"""What is known of the difference of two models, judged on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import mean, variance

Interval = tuple[float, float]


def repeated_interval(differences: Sequence[float], folds: int) -> tuple[float, Interval]:
    """The mean difference, and its 95% interval, of two models in repeated `folds`-fold cross-validation.

    `differences` has one for each fold of each repetition. The folds share training images, so the variance of their
    mean is not that of independent ones: (1 / n + 1 / (folds - 1)) times the variance of the differences
    (Nadeau and Bengio, 2003, section 3, https://doi.org/10.1023/A:1024068626366; Bouckaert and Frank, 2004).
    """
    from scipy.stats import t

    n, centre = len(differences), mean(differences)
    half = t.ppf(0.975, n - 1) * sqrt((1 / n + 1 / (folds - 1)) * variance(differences))
    return centre, (float(centre - half), float(centre + half))


def paired_interval(first_only: int, second_only: int, n: int) -> tuple[float, Interval]:
    """How much more often the second model is right than the first, of the same n images, with its 95% interval.

    `first_only` are images that only the first has right. Half an image is added to each of the four counts (Agresti
    and Min, 2005, section 3, https://doi.org/10.1002/sim.1781).
    """
    a, b, total = first_only + 0.5, second_only + 0.5, n + 2
    centre = (b - a) / total
    half = 1.959964 * sqrt((a + b) - (b - a) ** 2 / total) / total
    return (second_only - first_only) / n, (centre - half, centre + half)
