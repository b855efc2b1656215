"""The loss of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..layers import ConvNet
from ..recipe import Recipe


def loss_of(
    net: Callable[[Tensor], Tensor], x: Tensor, target: Tensor, recipe: Recipe, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy over the batch, auxiliary classifiers included, and the logits (n, classes).

    `target` holds class indices, int64 (n,), or class probabilities, float (n, classes), as mixed images need.
    `weights` (classes,) multiply the loss of each class: see `class_weights`.
    """
    if recipe.aux_weight and isinstance(net, ConvNet):
        logits, others = net.forward_aux(x)
    else:
        logits, others = net(x), {}
    loss = cross_entropy(logits, target, recipe, weights)
    for other in others.values():
        loss = loss + recipe.aux_weight * cross_entropy(other, target, recipe, weights)
    return loss, logits


def cross_entropy(logits: Tensor, target: Tensor, recipe: Recipe, weights: Tensor | None = None) -> Tensor:
    if weights is None:
        return F.cross_entropy(logits.float(), target, label_smoothing=recipe.label_smoothing)
    each = F.cross_entropy(logits.float(), target, weights, label_smoothing=recipe.label_smoothing, reduction="none")
    return each.mean()  # not torch's weighted mean, which would depend on how a batch is divided


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """float32 (classes,): in proportion to the inverse of each class's images, 1 on average over the images."""
    counts = torch.bincount(labels, minlength=classes)
    return len(labels) / (int((counts > 0).sum()) * counts.clamp(min=1))
