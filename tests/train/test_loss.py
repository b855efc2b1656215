"""What a step minimises: cross-entropy, smoothed, with auxiliary classifiers, of mixed labels."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.catalogue import find
from convatlas.layers import ConvNet, on_meta
from convatlas.train.loss import loss_of
from tests.train.short_runs import (
    CHAIN,
)


class Aux(ConvNet):
    """Fixed logits of two images and two auxiliary classifiers."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

    def forward_aux(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self(x), {"a": torch.zeros(2, 3), "b": torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])}


def test_label_smoothing() -> None:
    """q = 0.7 + 0.3 / 3 = 0.8 for the right class, 0.1 for the others (Szegedy et al., 2015, section 7)."""
    y = torch.tensor([0, 2])
    first, second = math.log(math.e**2 + 2), math.log(math.e + 2)  # the logarithms of the sums
    expected = ((first - 0.8 * 2) + (second - 0.1 * 1)) / 2
    loss, _ = loss_of(Aux(), torch.zeros(2, 1), y, replace(CHAIN, label_smoothing=0.3))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    plain, logits = loss_of(Aux(), torch.zeros(2, 1), y, CHAIN)
    assert plain.item() == pytest.approx(((first - 2) + second) / 2, rel=1e-6)
    assert torch.equal(logits, Aux()(y))


def test_auxiliary_losses_count_when_the_recipe_says() -> None:
    y = torch.tensor([0, 2])
    main, _ = loss_of(Aux(), torch.zeros(2, 1), y, CHAIN)
    a, b = math.log(3), (math.log(2 + math.e**5) + math.log(3)) / 2
    loss, logits = loss_of(Aux(), torch.zeros(2, 1), y, replace(CHAIN, aux_weight=0.3))
    assert loss.item() == pytest.approx(main.item() + 0.3 * (a + b), rel=1e-6)
    assert torch.equal(logits, Aux()(y))
    a = b = 0.0  # smoothing reaches them, too
    smooth = replace(CHAIN, aux_weight=0.5, label_smoothing=0.3)
    for logits in Aux().forward_aux(y)[1].values():
        a += F.cross_entropy(logits, y, label_smoothing=0.3).item()
    b = loss_of(Aux(), torch.zeros(2, 1), y, replace(smooth, aux_weight=0.0))[0].item()
    assert loss_of(Aux(), torch.zeros(2, 1), y, smooth)[0].item() == pytest.approx(b + 0.5 * a, rel=1e-6)


def test_a_network_without_auxiliary_classifiers_has_one_loss() -> None:
    net = nn.Linear(4, 3)
    x, y = torch.randn(2, 4), torch.tensor([0, 1])
    assert torch.equal(loss_of(net, x, y, replace(CHAIN, aux_weight=0.3))[0], loss_of(net, x, y, CHAIN)[0])


def test_googlenets_loss_reaches_its_auxiliary_classifiers() -> None:
    with on_meta():
        net = find("googlenet").build(classes=7)
        x, y = torch.empty(2, 3, 224, 224), torch.empty(2, dtype=torch.int64)
    recipe = replace(CHAIN, aux_weight=0.3)
    loss_of(net, x, y, recipe)[0].backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    loss_of(net, x, y, CHAIN)[0].backward()
    assert {name for name, p in net.named_parameters() if p.grad is None and "aux" in name}


def test_shares_of_classes_are_a_target_too() -> None:
    """A mixed image's loss is the mix of its two labels' losses, smoothed or not."""
    net, x = torch.nn.Linear(4, 3), torch.randn(2, 4)
    a, b, share = torch.tensor([0, 2]), torch.tensor([1, 2]), torch.tensor([0.3, 0.6])
    one_hot = torch.nn.functional.one_hot
    mixed = share[:, None] * one_hot(a, 3) + (1 - share)[:, None] * one_hot(b, 3)
    for smoothing in (0.0, 0.1):
        recipe = replace(CHAIN, label_smoothing=smoothing)
        each = [
            share[i] * loss_of(net, x[i : i + 1], a[i : i + 1], recipe)[0]
            + (1 - share[i]) * loss_of(net, x[i : i + 1], b[i : i + 1], recipe)[0]
            for i in range(2)
        ]
        torch.testing.assert_close(loss_of(net, x, mixed, recipe)[0], sum(each) / 2)
