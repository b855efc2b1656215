"""The rates of tuning follow from the size of the features, so that no network starts with a leap."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from convatlas.tuning.features import Features
from convatlas.tuning.probe import fit_probe
from convatlas.tuning.probed import Probed, probed
from convatlas.tuning.recipes import STEP, TUNED, as_the_probe, recipe_of, slower
from tests.trained import digits
from tests.tuning.models import small


@pytest.fixture
def found() -> Probed:
    return probed(small(), digits(100))


def with_features(found: Probed, x: Tensor) -> Probed:
    labels = found.train.labels
    return replace(found, train=Features(x, labels, 0), probe=fit_probe(x, labels, found.data.classes))


def test_the_head_learns_with_the_penalty_of_the_probe(found: Probed) -> None:
    """Where all features vary alike, the probe is where its loss with this penalty is the lowest."""
    values, labels = found.train.values, found.train.labels
    varied = values + 0.1 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    x = (varied - varied.mean(0)) / varied.std(0, correction=0)
    alike = with_features(found, x)
    sgd, probe = as_the_probe(alike), alike.probe
    weight = probe.weight.clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(x @ weight.T + probe.bias, labels), weight)
    assert (slope + sgd.weight_decay * probe.weight).norm() < 0.05 * slope.norm()
    assert sgd.lr * x.square().sum(1).mean() == pytest.approx(1, rel=0.1)
    assert as_the_probe(with_features(found, x / 1000)).lr <= 1, "a bias is as large as ever"


def test_a_step_hardly_moves_the_logits_whatever_the_size_of_the_features(found: Probed) -> None:
    large = with_features(found, 100 * found.train.values)
    for mode in ("finetune", "gradual"):
        tuning = recipe_of(mode, large).tuning
        assert tuning is not None
        ((name, _, times),) = (rate.rpartition(":") for rate in tuning.rates)
        assert name == "head.logits"
        moved = TUNED.lr * float(times) * large.train.values.abs().sum(1).mean()
        assert moved == pytest.approx(STEP, rel=0.05)
    assert slower(with_features(found, found.train.values / 100), "head.logits") == ()
