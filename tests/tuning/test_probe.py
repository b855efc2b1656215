"""The linear probe, against scikit-learn's own fit, and what is chosen without the held-out images."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from convatlas.errors import UserError
from convatlas.tuning.probe import FLOOR, STRENGTHS, fit_probe, fitted, folds, mean_loss, scales

CLASSES = ("a", "b", "c")


def blobs(n: int, classes: int, seed: int = 0, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, width, generator=random)
    return centres[labels] + torch.randn(n, width, generator=random) + 3, labels


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("balance", [False, True])
def test_the_fit_is_that_of_scikit_learn_on_standardised_features(classes: int, balance: bool) -> None:
    x, y = blobs(60, classes)
    x, y = x[:50], y[:50].clone()
    y[y == 0] = torch.where(torch.arange((y == 0).sum()) % 2 == 0, 0, 1)  # uneven
    ((weight, bias),) = fitted(x, y, (0.1,), balance=balance)
    mean, deviation = x.mean(0).numpy(), x.std(0, correction=0).numpy()
    theirs = LogisticRegression(C=0.1, class_weight="balanced" if balance else None, tol=1e-8)
    theirs.fit((x.numpy() - mean) / deviation, y.numpy())
    expected = theirs.predict_proba((x.numpy() - mean) / deviation)
    np.testing.assert_allclose((x @ weight.T + bias).softmax(1).numpy(), expected, atol=2e-3)


def test_without_an_intercept_the_bias_is_zero() -> None:
    x, y = blobs(60, 3)
    ((_, bias),) = fitted(x, y, (0.1,), intercept=False)
    assert (bias == 0).all()


def test_a_feature_that_hardly_varies_is_not_blown_up() -> None:
    x, y = blobs(60, 3)
    x = torch.cat([x, torch.full((60, 1), 2.0) + 1e-6 * torch.randn(60, 1)], 1)
    _, deviation = scales(x)
    assert deviation[-1] == pytest.approx(FLOOR * x.std(0, correction=0).square().mean().sqrt())
    ((weight, _),) = fitted(x, y, (1.0,))
    shifted = x.clone()
    shifted[:, -1] += 0.1  # on other images it varies
    assert ((shifted - x) @ weight.T).abs().max() < 0.1
    assert scales(torch.ones(5, 3))[1].tolist() == [1, 1, 1]


def test_each_class_is_spread_over_the_folds() -> None:
    labels = torch.tensor([0] * 11 + [1] * 2 + [2] * 40)
    fold = folds(labels, seed=3)
    for c, n in ((0, 11), (1, 2), (2, 40)):
        counts = torch.bincount(fold[labels == c], minlength=5)
        assert counts.sum() == n
        assert counts.max() - counts.min() <= 1
    assert torch.equal(fold, folds(labels, seed=3))
    assert not torch.equal(fold, folds(labels, seed=4))


def test_the_strength_has_the_lowest_loss_of_images_that_were_left_out() -> None:
    x, y = blobs(90, 3)
    probe = fit_probe(x, y, CLASSES)
    tried = list(probe.losses)
    assert tuple(tried) == STRENGTHS[: len(tried)]
    assert tried.index(probe.strength) == len(tried) - 2 or tried[-1] in (probe.strength, STRENGTHS[-1])
    assert probe.losses[probe.strength] == min(probe.losses.values())
    fold = folds(y, 0)
    for k in (0, 3):  # by hand, one strength at a time
        ((weight, bias),) = fitted(x[fold != k], y[fold != k], (probe.strength,))
        ours = probe.held_out[fold == k].softmax(1)
        torch.testing.assert_close(ours, (x[fold == k] @ weight.T + bias).softmax(1), atol=5e-3, rtol=0)
    assert probe.losses[probe.strength] == pytest.approx(mean_loss(probe.held_out, y, False))


def test_noise_is_not_learnt() -> None:
    """Labels without any relation to the features: the weakest fit is the best, and no better than a guess."""
    x, y = torch.randn(90, 8, generator=torch.Generator().manual_seed(1)), torch.arange(90) % 3
    probe = fit_probe(x, y, CLASSES)
    assert probe.strength <= 1e-2
    assert (probe.held_out.argmax(1) == y).float().mean() < 0.55


def test_the_loss_with_balance_is_the_mean_over_classes() -> None:
    logits, y = torch.tensor([[2.0, 0.0]] * 9 + [[1.0, 0.0]]), torch.tensor([0] * 9 + [1])
    each = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    assert mean_loss(logits, y, True) == pytest.approx(float((each[0] + each[9]) / 2))


def test_a_class_with_one_image_is_refused() -> None:
    x, _ = blobs(9, 3)
    with pytest.raises(UserError, match="class 'b' has 1 training image; give each class at least 2"):
        fit_probe(x[:5], torch.tensor([0, 0, 1, 2, 2]), CLASSES)
    with pytest.raises(UserError, match="class 'c' has no training images; give each class at least 2"):
        fit_probe(x[:4], torch.tensor([0, 0, 1, 1]), CLASSES)
