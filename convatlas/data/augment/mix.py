"""Mixup and cutmix: images mixed with one another, and targets to match.

Everything is keyed by the image's index. Its partner comes from the same global batch, across all ranks, so it depends
on neither the number of ranks nor the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ...recipe import MIXES, operation
from .keys import Draw, Epoch, bits, draw, uniform
from .spatial import squares


def drawn_mixes(indices: Tensor, *, ops: Sequence[str], seed: int, epoch: int) -> tuple[Tensor, Tensor] | None:
    """For each of a global batch's `indices` (n,), on the CPU: its partner's position, int64 (n,), and the share that
    its own image keeps, float64 (n,). None if the last of `ops` is not a mix."""
    if not ops or operation(ops[-1])[0] not in MIXES:
        return None
    (alpha,) = operation(ops[-1])[1]
    return partners(indices, seed=seed, epoch=epoch), shares(indices, alpha, seed, epoch)


def mix(
    x: Tensor,
    labels: Tensor,
    indices: Tensor,
    drawn: tuple[Tensor, Tensor],
    *,
    op: str,
    classes: int,
    seed: int,
    epoch: Epoch,
) -> tuple[Tensor, Tensor]:
    """A global batch of network input (n, C, H, W) and targets (n, classes), mixed by `op` as `drawn_mixes` says."""
    at, share = drawn
    return mix_with(op, x, labels, indices, (x[at], labels[at]), share, classes=classes, seed=seed, epoch=epoch)


def partners(indices: Tensor, *, seed: int, epoch: Epoch) -> Tensor:
    """For each position in a global batch (n,), the position of its partner: a different one, unless it is alone.

    A rank that holds part of the batch takes its rows of this and fetches those images too.
    """
    shuffled = bits(indices, seed, epoch, Draw.PARTNER).argsort(stable=True)
    return torch.empty_like(shuffled).index_copy_(0, shuffled, shuffled.roll(-1))


def mix_with(
    op: str,
    x: Tensor,
    labels: Tensor,
    indices: Tensor,
    others: tuple[Tensor, Tensor],
    share: Tensor,
    *,
    classes: int,
    seed: int,
    epoch: Epoch,
) -> tuple[Tensor, Tensor]:
    """Network input (n, C, H, W) mixed with the `others` (their x and labels), and targets (n, classes) that sum to 1.

    `share`, float64 (n,), is what each image keeps of itself: "mixup" interpolates, "cutmix" pastes a rectangle of the
    partner. Zhang et al. (2018), equation 1; Yun et al. (2019), equations 1 and 2. (Their code draws one ratio for a
    batch; here each image has its own.)
    """
    if operation(op)[0] == "mixup":
        weights = share.to(x.dtype)[:, None, None, None]
        x = weights * x + (1 - weights) * others[0]
    else:
        cut = patches(indices, share, x.shape[2], x.shape[3], seed, epoch)
        x = torch.where(cut, others[0], x)
        share = 1 - cut.double().mean((1, 2, 3))  # of the rectangle as clipped to the image
    own, other = (F.one_hot(y, classes).double() for y in (labels, others[1]))
    return x, (share[:, None] * own + (1 - share[:, None]) * other).float()


def shares(indices: Tensor, alpha: float, seed: int, epoch: Epoch) -> Tensor:
    """For each index, the share that its own image keeps: float64 (n,) of Beta(alpha, alpha); 1 if alpha is 0."""
    if alpha == 0:
        return torch.ones(len(indices), dtype=torch.float64)
    quantiles = uniform(indices, seed, epoch, Draw.SHARE)
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, quantiles.numpy()))


def patches(indices: Tensor, share: Tensor, h: int, w: int, seed: int, epoch: Epoch) -> Tensor:
    """bool (n, 1, h, w): a rectangle of the image's aspect with 1 - share of its area, centred anywhere."""
    high, wide = ((n * (1 - share).sqrt()).long() for n in (h, w))
    row = draw(indices, h, seed, epoch, Draw.PATCH)
    column = draw(indices, w, seed, epoch, Draw.PATCH + 1)
    return squares(row, column, high, wide, h, w)
