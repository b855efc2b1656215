"""Crops of a batch of images scaled together on their device, by Pillow's arithmetic.

Pillow weighs pixels by fixed-point numbers, along rows and then along columns, and rounds to uint8 after each
(Resample.c: precompute_coeffs, normalize_coeffs_8bpc). So do these functions, always in this order. Pillow 13 begins
with the columns where the height shrinks much more than the width, and may then differ by a level or two.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BITS = 22  # of a weight, after the binary point
SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}  # pixels on either side, where an image is not made smaller
CUBIC = -0.5  # Pillow's coefficient a
TOGETHER = 1 << 26  # values in an intermediate result, at most


def cut_and_scale(images: Tensor, boxes: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """From uint8 images (n, C, h, w), the parts in `boxes`, int64 (n, 4), scaled to `size`: uint8 (n, C, H, W).

    `boxes` (left, top, right, bottom) lie within the images. Nothing waits for the device.
    """
    h, w = images.shape[2:]
    left, top, right, bottom = boxes.unbind(1)
    columns, across = taps(left, right - left, w, size[1], interpolation)
    rows, down = taps(top, bottom - top, h, size[0], interpolation)
    some = max(1, TOGETHER // (images.shape[1] * h * size[1]))
    parts = zip(*(t.split(some) for t in (images, columns, across, rows, down)))
    return torch.cat([weighed(weighed(i, c, a, 3), r, d, 2) for i, c, a, r, d in parts])


def taps(first: Tensor, length: Tensor, whole: int, size: int, interpolation: str) -> tuple[Tensor, Tensor]:
    """Which pixels make up each of `size` output pixels, and their weights: int64 and int32 (n, size, most).

    Output spans `length` (n,) pixels from `first` (n,) on, of `whole`.
    """
    widest = SUPPORT[interpolation] * max(whole / size, 1.0)
    length = length.double()[:, None]
    scale = length / size
    stretch = scale.clamp(min=1.0)
    support = SUPPORT[interpolation] * stretch
    centre = (torch.arange(size, device=first.device) + 0.5) * scale
    start = (centre - support + 0.5).trunc().clamp(min=0.0)
    stop = torch.minimum((centre + support + 0.5).trunc(), length)
    at = start[..., None] + torch.arange(2 * math.ceil(widest) + 1, device=first.device)
    inside = at < stop[..., None]
    weights = kernel((at - centre[..., None] + 0.5) * (1.0 / stretch)[..., None], interpolation) * inside
    total = torch.zeros_like(centre)
    for tap in weights.unbind(2):  # in this order, as rounding depends on it
        total = total + tap
    fixed = weights / total[..., None] * (1 << BITS)
    fixed = (fixed + torch.where(fixed < 0, -0.5, 0.5)).trunc().int()
    return first[:, None, None] + torch.where(inside, at, 0.0).long(), fixed * inside


def kernel(x: Tensor, interpolation: str) -> Tensor:
    """The interpolation's weight at a distance of `x` output or input pixels, whichever are larger."""
    x = x.abs()
    if interpolation == "bilinear":
        return (1 - x).clamp(min=0.0)
    near = ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * CUBIC
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def weighed(images: Tensor, at: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Images (n, C, h, w), uint8, as weighted sums of the pixels `at` (n, size, most) along rows (3) or columns (2)."""
    n, channels, h, w = images.shape
    shape = [n, channels, h, w]
    shape[dim] = at.shape[1]
    spread = (slice(None), None, None, slice(None)) if dim == 3 else (slice(None), None, slice(None), None)
    total = torch.full(shape, 1 << (BITS - 1), dtype=torch.int32, device=images.device)
    for where, weight in zip(at.unbind(2), weights.unbind(2)):
        total += images.gather(dim, where[spread].expand(shape)) * weight[spread]
    return (total >> BITS).clamp_(0, 255).to(torch.uint8)
