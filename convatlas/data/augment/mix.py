"""Mixup and cutmix: images mixed with one another, and targets to match.

Everything is keyed by the image's index. Its partner comes from the same global batch, across all ranks, so it depends
on neither the number of ranks nor the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional as F

from ...recipe import MIXES, operation
from .keys import Draw, Epoch, bits, draw, uniform
from .spatial import squares


def mix(
    x: Tensor, labels: Tensor, indices: Tensor, *, ops: Sequence[str], classes: int, seed: int, epoch: Epoch
) -> tuple[Tensor, Tensor]:
    """A global batch of network input (n, C, H, W) and its targets (n, classes), mixed by the last of `ops`; if that is
    not a mix, x and the labels (n,) unchanged."""
    if not ops or operation(ops[-1])[0] not in MIXES:
        return x, labels
    at = partners(indices, seed=seed, epoch=epoch).to(x.device)
    return mix_with(ops[-1], x, labels, indices, (x[at], labels[at]), classes=classes, seed=seed, epoch=epoch)


def partners(indices: Tensor, *, seed: int, epoch: Epoch) -> Tensor:
    """For each position in a global batch (n,), the position of its partner: a different one, unless it is alone.

    A rank that holds part of the batch takes its rows of this and fetches those images too.
    """
    shuffled = bits(indices.cpu(), seed, epoch, Draw.PARTNER).argsort(stable=True)
    return torch.empty_like(shuffled).index_copy_(0, shuffled, shuffled.roll(-1))


def mix_with(
    op: str,
    x: Tensor,
    labels: Tensor,
    indices: Tensor,
    others: tuple[Tensor, Tensor],
    *,
    classes: int,
    seed: int,
    epoch: Epoch,
) -> tuple[Tensor, Tensor]:
    """Network input (n, C, H, W) mixed with the `others` (their x and labels), and targets (n, classes) that sum to 1.

    "mixup:alpha" interpolates, "cutmix:alpha" pastes a rectangle of the partner, with ratios drawn from
    Beta(alpha, alpha); alpha 0 changes nothing. Zhang et al. (2018), equation 1; Yun et al. (2019), equations
    1 and 2. (The papers' code draws one ratio per batch; here each image has its own.)
    """
    name, (alpha,) = operation(op)
    share = shares(indices, alpha, seed, epoch).to(x.device)
    if name == "mixup":
        weights = share.to(x.dtype)[:, None, None, None]
        x = weights * x + (1 - weights) * others[0]
    else:
        cut = patches(indices.to(x.device), share, x.shape[2], x.shape[3], seed, epoch)
        x = torch.where(cut, others[0], x)
        share = 1 - cut.double().mean((1, 2, 3))  # of the rectangle as clipped to the image
    own, other = (F.one_hot(y, classes).double() for y in (labels, others[1]))
    return x, (share[:, None] * own + (1 - share[:, None]) * other).float()


def shares(indices: Tensor, alpha: float, seed: int, epoch: Epoch) -> Tensor:
    """For each index, the share that its own image keeps: float64 (n,), distributed as Beta(alpha, alpha)."""
    if alpha == 0:
        return torch.ones(len(indices), dtype=torch.float64)
    quantiles = uniform(indices.cpu(), seed, epoch, Draw.SHARE)
    return torch.from_numpy(betaincinv(alpha, alpha, quantiles.numpy()))


def patches(indices: Tensor, share: Tensor, h: int, w: int, seed: int, epoch: Epoch) -> Tensor:
    """bool (n, 1, h, w): a rectangle of the image's aspect with 1 - share of its area, centred anywhere."""
    high, wide = ((n * (1 - share).sqrt()).long() for n in (h, w))
    row = draw(indices, h, seed, epoch, Draw.PATCH)
    column = draw(indices, w, seed, epoch, Draw.PATCH + 1)
    return squares(row, column, high, wide, h, w)
