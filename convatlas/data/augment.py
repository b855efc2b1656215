"""Batched augmentation on the images' device, keyed by (seed, epoch, index).

An image gets the same augmentation whatever batch, worker or machine it is met on: its random numbers are a hash of
the seed, the epoch, its index and the number of the draw, not the next ones of a stream.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..recipe import operation

SHUFFLE, ROWS, COLUMNS, FLIP = range(4)  # the draws


def augment(images: Tensor, indices: Tensor, *, ops: tuple[str, ...], seed: int, epoch: int) -> Tensor:
    """uint8 images (n, C, H, W), augmented in the order of `ops`: "pad_crop:4" and "flip" (see recipe.AUGMENTATIONS).

    `indices` (n,) are the images' indices in their split. `pad_crop` pads each side with zeros and crops the
    original size anywhere; `flip` mirrors left to right half of the time.
    """
    indices = indices.to(images.device)
    for op in ops:
        name, arguments = operation(op)
        if name == "pad_crop":
            pad = int(arguments[0])
            top = draw(indices, 2 * pad + 1, seed, epoch, ROWS)
            left = draw(indices, 2 * pad + 1, seed, epoch, COLUMNS)
            images = crop(F.pad(images, (pad,) * 4), top, left, images.shape[2:])
        else:
            assert name == "flip", name
            mirrored = draw(indices, 2, seed, epoch, FLIP).bool()
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


def crop(images: Tensor, top: Tensor, left: Tensor, size: torch.Size) -> Tensor:
    """From each image (n, C, h, w) the window of `size` at its own `top` and `left`, both (n,)."""
    windows = images.unfold(2, size[0], 1).unfold(3, size[1], 1)  # a view: n, C, tops, lefts, H, W
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def order(n: int, *, seed: int, epoch: int) -> Tensor:
    """The permutation of n indices (int64) for one epoch: the same on every machine and torch version."""
    return bits(torch.arange(n), seed, epoch, SHUFFLE).argsort(stable=True)


def draw(indices: Tensor, n: int, seed: int, epoch: int, number: int) -> Tensor:
    """For each index (int64) a whole number in 0 ... n-1, evenly spread (n well below 2**31)."""
    high = (bits(indices, seed, epoch, number) >> 32) & 0xFFFFFFFF
    return (high * n) >> 32


def bits(indices: Tensor, seed: int, epoch: int, number: int) -> Tensor:
    """64 random bits for each index (int64): SplitMix64 (Steele et al., 2014) of the key's parts in turn."""
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
