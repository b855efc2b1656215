"""Random numbers keyed by (seed, epoch, index): a hash of the key, not the next numbers of a stream.

So an image gets the same augmentation in any batch, worker or machine.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

Epoch = int | Tensor  # a tensor, int64 (), where a CUDA graph is told the epoch as an argument


class Draw(IntEnum):
    """What a number is drawn for, so that draws are independent: shuffling and each augmentation."""

    SHUFFLE = 0
    ROWS = 1
    COLUMNS = 2
    FLIP = 3
    CUTOUT = 10  # row, column
    LIGHTING = 20  # one per colour axis
    PHOTOMETRIC = 30  # the order, then each factor
    POLICY = 40  # the sub-policy; for each of its two operations, whether to apply it; its sign
    PARTNER = 50
    SHARE = 51
    PATCH = 52  # row, column
    SCALE = 60
    CROP = 61  # row, column
    AREA = 70  # per attempt: area, aspect, row, column
    TRIVIALAUGMENT = 110  # the operation, its strength, its sign
    RANDAUGMENT = 120  # per operation: which, its sign


def order(n: int, *, seed: int, epoch: int) -> Tensor:
    """The permutation of n indices (int64) for one epoch: the same on every machine and torch version."""
    return bits(torch.arange(n), seed, epoch, Draw.SHUFFLE).argsort(stable=True)


def draw(indices: Tensor, n: int, seed: int, epoch: Epoch, number: int) -> Tensor:
    """For each index (int64), an integer uniform in 0 ... n-1 (n well below 2**31)."""
    high = (bits(indices, seed, epoch, number) >> 32) & 0xFFFFFFFF
    return (high * n) >> 32


def uniform(
    indices: Tensor, seed: int, epoch: Epoch, number: int | Tensor, low: float = 0.0, high: float = 1.0
) -> Tensor:
    """For each index (int64), a float64 uniform in (`low`, `high`); `number` may be a tensor of several."""
    share = (((bits(indices, seed, epoch, number) >> 12) & (1 << 52) - 1).double() + 0.5) / (1 << 52)
    return low + (high - low) * share


def normal(indices: Tensor, seed: int, epoch: Epoch, number: int) -> Tensor:
    """For each index (int64), a float64 sample of the standard normal distribution."""
    return torch.special.ndtri(uniform(indices, seed, epoch, number))


def bits(indices: Tensor, seed: int, epoch: Epoch, number: int | Tensor) -> Tensor:
    """64 random bits for each index (int64): SplitMix64 (Steele et al., 2014) over the parts of the key."""
    key = torch.zeros((), dtype=torch.int64)
    for part in (seed, epoch, number):
        key = splitmix(key + part)
    return splitmix(key + indices)


def splitmix(x: Tensor) -> Tensor:
    """One step of SplitMix64: adds the golden gamma and mixes, on int64, which wraps as the unsigned original does."""
    x = x - 0x61C8864680B583EB  # + 0x9E3779B97F4A7C15, modulo 2**64
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ (x >> 31 & (1 << 33) - 1)
