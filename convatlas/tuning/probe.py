"""A linear probe: logistic regression on features, its strength chosen by cross-validation on the training images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError

FOLDS = 5
STRENGTHS = tuple(10.0**power for power in range(-5, 2))  # scikit-learn's C: the inverse of the L2 penalty
PAST_BEST = 1  # strengths beyond the best that are tried
FLOOR = 0.1  # of the features' mean deviation: one that hardly varies here may vary more elsewhere
ITERATIONS = 300
FEWEST = 2  # training images of a class: one to learn from where the other is held out

Progress = Callable[[Sequence[int]], Iterable[int]]


@dataclass(frozen=True)
class Probe:
    """A linear classifier of features: logits = features @ weight.T + bias."""

    weight: Tensor  # float32 (classes, F)
    bias: Tensor  # float32 (classes,)
    strength: float  # scikit-learn's C
    losses: dict[float, float]  # by strength that was tried, the mean loss of images whose fold was left out
    held_out: Tensor  # float32 (N, classes): the logits of each training image by a probe fitted without its fold

    def __call__(self, features: Tensor) -> Tensor:
        """float32 logits (N, classes) of features (N, F)."""
        return features @ self.weight.T + self.bias


def fit_probe(
    features: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    seed: int = 0,
    balance: bool = False,
    intercept: bool = True,
    progress: Progress = iter,
) -> Probe:
    """The probe of the strength that has the lowest loss in FOLDS-fold cross-validation, fitted to all images.

    `features` are float32 (N, F), `labels` int64 (N,). With `balance`, each class weighs as much as any other in the
    fit. Without `intercept`, the bias is 0 and features are only scaled. `progress` wraps the numbers of the strengths.
    Raises UserError for a class with fewer than FEWEST images.
    """
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    if few := [(name, n) for name, n in zip(classes, counts, strict=True) if n < FEWEST]:
        name, n = few[0]
        raise UserError(
            f"class {name!r} has {n or 'no'} training image{'s' * (n != 1)}", f"give each class at least {FEWEST}"
        )
    fold = folds(labels, seed)
    paths = {
        k: fitted(features[fold != k], labels[fold != k], STRENGTHS, balance=balance, intercept=intercept)
        for k in fold.unique().tolist()
    }
    losses: dict[float, float] = {}
    best, held_out = STRENGTHS[0], torch.zeros(0)
    for _, strength in zip(progress(range(len(STRENGTHS))), STRENGTHS):
        logits = torch.zeros(len(labels), len(classes))
        for k, path in paths.items():
            weight, bias = next(path)
            logits[fold == k] = features[fold == k] @ weight.T + bias
        losses[strength] = mean_loss(logits, labels, balance)
        if losses[strength] == min(losses.values()):
            best, held_out = strength, logits
        elif len(losses) - list(losses).index(best) > PAST_BEST:
            break  # stronger ones take the longest, and fit too closely
    ((weight, bias),) = fitted(features, labels, (best,), balance=balance, intercept=intercept)
    return Probe(weight, bias, best, losses, held_out)


def folds(labels: Tensor, seed: int, count: int = FOLDS) -> Tensor:
    """int64 (N,): the fold of each image, drawn with `seed`; each class is spread evenly over the folds."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order].argsort(stable=True)]  # by class, shuffled within it
    fold = torch.empty(len(labels), dtype=torch.int64)
    fold[order] = torch.arange(len(labels)) % count
    return fold


def fitted(
    features: Tensor, labels: Tensor, strengths: Sequence[float], *, balance: bool = False, intercept: bool = True
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each of the strengths, weakest first, weight (classes, F) and bias (classes,) of the logistic regression.

    The features are standardised for it; weight and bias are for the features as they are. All classes from 0 to the
    highest label must have images.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, deviation = scales(features)
    if not intercept:
        mean = torch.zeros_like(mean)
    x, y = ((features - mean) / deviation).numpy(), labels.numpy()
    model = LogisticRegression(
        max_iter=ITERATIONS,
        fit_intercept=intercept,
        class_weight="balanced" if balance else None,
        warm_start=True,  # from the strength before
    )
    for strength in strengths:
        model.C = strength
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that is nearly done is as good
            model.fit(x, y)
        weight, bias = two_sided(model.coef_), two_sided(np.reshape(model.intercept_, (-1, 1)))[:, 0]
        if not intercept:
            bias = torch.zeros(len(weight))
        weight = weight / deviation
        yield weight.float(), (bias - weight @ mean).float()


def two_sided(values: np.ndarray) -> Tensor:
    """float32 (classes, n): for two classes scikit-learn has one row, the difference of theirs."""
    rows = torch.from_numpy(values).float()
    return torch.cat([-rows / 2, rows / 2]) if len(rows) == 1 else rows


def scales(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (F,) and the deviation (F,) of features; no deviation is below FLOOR times their root mean square."""
    mean, deviation = features.mean(0), features.std(0, correction=0)
    usual = deviation.square().mean().sqrt()
    return mean, deviation.clamp(min=FLOOR * float(usual) or 1.0)


def mean_loss(logits: Tensor, labels: Tensor, balance: bool) -> float:
    """The mean cross-entropy; with `balance`, the mean over the classes of theirs."""
    losses = F.cross_entropy(logits, labels, reduction="none")
    if not balance:
        return float(losses.mean())
    counts = torch.bincount(labels, minlength=logits.shape[1])
    return float(torch.zeros(logits.shape[1]).index_add_(0, labels, losses).div(counts).mean())
