"""The loss of a batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from ..layers import ConvNet
from ..recipe import Recipe


def loss_of(net: Callable[[Tensor], Tensor], x: Tensor, target: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy over the batch, auxiliary classifiers included, and the logits (n, classes).

    `target` holds class indices, int64 (n,), or class probabilities, float (n, classes), as mixed images need.
    """
    if recipe.aux_weight and isinstance(net, ConvNet):
        logits, others = net.forward_aux(x)
    else:
        logits, others = net(x), {}
    loss = cross_entropy(logits, target, recipe)
    for other in others.values():
        loss = loss + recipe.aux_weight * cross_entropy(other, target, recipe)
    return loss, logits


def cross_entropy(logits: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
    return F.cross_entropy(logits.float(), target, label_smoothing=recipe.label_smoothing)
