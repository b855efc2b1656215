"""Geometric operations: crops, flips, cutout and Pillow's affine transforms on batches of uint8 (n, C, H, W)."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .keys import Draw, Epoch, draw

Fill = tuple[int, ...]  # one level per channel, or one for all


def pad_crop(images: Tensor, indices: Tensor, pad: int, seed: int, epoch: Epoch) -> Tensor:
    """Pads each side with `pad` zeros and takes a random crop of the original size."""
    return crop(F.pad(images, (pad,) * 4), images.shape[2:], indices, pad, seed, epoch)


def reflect_crop(images: Tensor, indices: Tensor, pad: int, seed: int, epoch: Epoch) -> Tensor:
    """As pad_crop, with reflection padding (the border pixels are not repeated)."""
    rows, columns = (mirror(torch.arange(-pad, n + pad, device=images.device), n) for n in images.shape[2:])
    return crop(images[:, :, rows][:, :, :, columns], images.shape[2:], indices, pad, seed, epoch)


def mirror(at: Tensor, n: int) -> Tensor:
    """Positions reflected at 0 and n - 1 into 0 ... n - 1."""
    period = max(2 * (n - 1), 1)
    at = at % period
    return torch.minimum(at, period - at) if n > 1 else torch.zeros_like(at)


def crop(padded: Tensor, size: torch.Size, indices: Tensor, pad: int, seed: int, epoch: Epoch) -> Tensor:
    """A random crop of `size` from each image (n, C, h, w)."""
    top = draw(indices, 2 * pad + 1, seed, epoch, Draw.ROWS)
    left = draw(indices, 2 * pad + 1, seed, epoch, Draw.COLUMNS)
    windows = padded.unfold(2, size[0], 1).unfold(3, size[1], 1)  # a view
    return windows[torch.arange(len(padded), device=padded.device), :, top, left]  # of n, C, tops, lefts, H, W


def flip(images: Tensor, indices: Tensor, seed: int, epoch: Epoch) -> Tensor:
    """Mirrors left to right with probability 1/2."""
    return mirrored(images, draw(indices, 2, seed, epoch, Draw.FLIP).bool())


def alternate_flip(images: Tensor, indices: Tensor, seed: int, epoch: Epoch) -> Tensor:
    """Mirrors left to right every second epoch; whether from the first or second is random per image (Jordan, 2024)."""
    return mirrored(images, draw(indices, 2, seed, 0, Draw.FLIP) != epoch % 2)


def mirrored(images: Tensor, which: Tensor) -> Tensor:
    """The images, those in `which` mirrored left to right."""
    if images.device.type == "cpu":  # image by image: many times faster than torch.where
        images = images.clone()
        for i in which.nonzero()[:, 0].tolist():
            images[i] = images[i].flip(2)
        return images
    return torch.where(which[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, indices: Tensor, side: int, fill: Fill, seed: int, epoch: Epoch) -> Tensor:
    """Fills a square of `side` pixels centred anywhere in the image (DeVries and Taylor, 2017, section 3.2)."""
    h, w = images.shape[2:]
    row = draw(indices, h, seed, epoch, Draw.CUTOUT)
    column = draw(indices, w, seed, epoch, Draw.CUTOUT + 1)
    return torch.where(squares(row, column, side, side, h, w), colour(fill, images.shape[1], images.device), images)


def squares(row: Tensor, column: Tensor, high: int | Tensor, wide: int | Tensor, h: int, w: int) -> Tensor:
    """bool (n, 1, h, w): the rectangle `high` x `wide` around each centre, clipped to the image."""
    above = between(torch.arange(h, device=row.device), row, high)
    beside = between(torch.arange(w, device=row.device), column, wide)
    return above[:, None, :, None] & beside[:, None, None, :]


def between(at: Tensor, centre: Tensor, length: int | Tensor) -> Tensor:
    """bool (n, len(at)): within the `length` positions around each centre (n,); if even, one more before than after."""
    length = torch.as_tensor(length, device=at.device).expand(len(centre))
    first = centre - torch.div(length, 2, rounding_mode="floor")
    return (at >= first[:, None]) & (at < (first + length)[:, None])


@cache  # not copied to a GPU, which would wait, at every call
def colour(fill: Fill, channels: int, device: torch.device) -> Tensor:
    """`fill` as uint8 (1, channels, 1, 1)."""
    return torch.tensor(fill, dtype=torch.uint8, device=device).expand(channels)[None, :, None, None]


def affine(images: Tensor, matrices: Tensor, fill: Fill) -> Tensor:
    """Pillow's nearest-neighbour Image.transform: output pixel (x, y) is the input pixel at
    (a x + b y + c, d x + e y + f), both measured at pixel centres, for each row of `matrices`, float64 (n, 6); `fill`
    outside the image. Uses Pillow's 16-bit fixed-point arithmetic, so pixels match exactly.
    """
    _, channels, h, w = images.shape
    a, b, c, d, e, f = matrices.to(images.device).unbind(1)
    ys, xs = (torch.arange(n, device=images.device) for n in (h, w))

    def source(along: Tensor, across: Tensor, start: Tensor) -> Tensor:  # int64 (n, h, w)
        step, jump, first = (fixed(v)[:, None, None] for v in (along, across, start + along * 0.5 + across * 0.5))
        return (first + jump * ys[:, None] + step * xs) >> 16

    x, y = source(a, b, c), source(d, e, f)
    inside = ((x >= 0) & (x < w) & (y >= 0) & (y < h))[:, None]
    at = (y.clamp(0, h - 1) * w + x.clamp(0, w - 1)).flatten(1)[:, None].expand(-1, channels, -1)
    return torch.where(inside, images.flatten(2).gather(2, at).view_as(images), colour(fill, channels, images.device))


def fixed(values: Tensor) -> Tensor:
    return torch.floor(values * 65536.0 + 0.5).long()


def rotation(degrees: float, h: int, w: int) -> tuple[float, ...]:
    """The matrix of Pillow's Image.rotate, counter-clockwise about the centre."""
    angle = -math.radians(degrees % 360)
    a, b, d, e = (round(v, 15) for v in (math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle)))
    x, y = w / 2, h / 2
    return a, b, x - a * x - b * y, d, e, y - d * x - e * y
