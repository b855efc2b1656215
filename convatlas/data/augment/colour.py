"""Colour operations: Pillow's ImageEnhance and ImageOps on batches of uint8 (n, C, H, W), one strength per image.

Results match Pillow bit for bit: Howard (2013) and Cubuk et al. (2018) define their operations by it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import permutations

import torch
from torch import Tensor

from ..pixels import recolour
from .keys import Draw, Epoch, draw, normal, uniform


@cache  # as `colour` in spatial.py
def orders(device: torch.device) -> Tensor:
    """The orders of three operations, int64 (6, 3)."""
    return torch.tensor([*permutations(range(3))], device=device)


def photometric(images: Tensor, indices: Tensor, strength: float, seed: int, epoch: Epoch) -> Tensor:
    """Brightness, contrast and saturation, each by a factor in 1 - strength ... 1 + strength, in random order.

    Howard (2013), "Some Improvements on Deep Convolutional Neural Network Based Image Classification", section 2.2:
    0.5 to 1.5 by the Python Imaging Library. GoogLeNet (Szegedy et al., 2014, section 6) found it useful.
    """
    every = orders(images.device)
    sequence = every[draw(indices, len(every), seed, epoch, Draw.PHOTOMETRIC)]
    factors = [uniform(indices, seed, epoch, Draw.PHOTOMETRIC + 1 + i, 1 - strength, 1 + strength) for i in range(3)]
    images = images.clone()
    for place in range(3):
        for i, enhance in enumerate((brightness, contrast, saturation)):
            images = where(sequence[:, place] == i, enhance, images, factors[i])
    return images


def where(chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor], images: Tensor, values: Tensor) -> Tensor:
    """`change(images, values)` for the chosen images; the others unchanged. On a CPU `images` itself is overwritten."""
    if images.device.type != "cpu":  # computed for all: nothing waits to learn which ones are chosen
        return torch.where(chosen[:, None, None, None], change(images, values), images)
    if len(at := chosen.nonzero()[:, 0]):
        images[at] = change(images[at], values[at])
    return images


Axes = tuple[tuple[float, ...], ...]


def lighting(images: Tensor, indices: Tensor, std: float, axes: Axes, seed: int, epoch: Epoch) -> Tensor:
    """PCA colour noise: adds one colour to all pixels of an image. Along each principal axis of the training pixels'
    colours it is a normal sample times `std` times their standard deviation (the norm of the row of `axes`, in levels).

    Krizhevsky et al. (2012), section 4.1. The paper prints the eigenvalue; its code (cuda-convnet: color_stdevs)
    uses the standard deviation, the only one independent of the pixels' unit. Rounded to whole levels.
    """
    amounts = torch.stack([normal(indices, seed, epoch, Draw.LIGHTING + i) for i in range(len(axes))], 1)
    added = (std * amounts @ axes_on(axes, images.device)).round()[:, :, None, None]
    return (images.to(torch.int32) + added.to(torch.int32)).clamp_(0, 255).to(torch.uint8)


@cache
def axes_on(axes: Axes, device: torch.device) -> Tensor:
    return torch.tensor(axes, dtype=torch.float64, device=device)


# ImageEnhance: blends with a degenerate image; factor 0 gives the degenerate, 1 the original, 2 extrapolates


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with black."""
    return blend(torch.zeros_like(images[:, :, :1, :1]), images, factors)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with the mean of the image's luma."""
    mean = (recolour(images, 1).flatten(1).double().mean(1) + 0.5).floor().to(torch.uint8)
    return blend(mean[:, None, None, None], images, factors)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with the image's luma."""
    return blend(recolour(images, 1), images, factors)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with the smoothed image; border pixels stay unchanged."""
    if min(images.shape[2:]) < 3:
        return images
    levels = images.to(torch.int16)
    rows = levels[:, :, :-2] + levels[:, :, 1:-1] + levels[:, :, 2:]
    weighted = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * middle_of(levels)  # 5 in the centre, 1 around it
    smooth = images.clone()
    middle_of(smooth).copy_((2 * weighted + 13) // 26)  # rounded, of thirteenths
    return blend(smooth, images, factors)


def middle_of(images: Tensor) -> Tensor:
    return images[:, :, 1:-1, 1:-1]


def blend(degenerate: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """degenerate + factor * (image - degenerate), truncated to whole levels, in float32 as Pillow does."""
    factors = factors.to(images.device, torch.float32)[:, None, None, None]
    low = degenerate.float()
    return (low + factors * (images.float() - low)).clamp_(0, 255).to(torch.uint8)


# ImageOps: a table of 256 levels, shared or per image and channel


def invert(images: Tensor) -> Tensor:
    return 255 - images


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Inverts levels at or above the threshold."""
    return torch.where(images < thresholds.to(images.device)[:, None, None, None], images, 255 - images)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keeps the `bits` highest bits of each level."""
    masks = (0xFF << (8 - bits.long())) & 0xFF
    return images & masks.to(images.device, torch.uint8)[:, None, None, None]


def autocontrast(images: Tensor) -> Tensor:
    """Stretches each channel to 0 ... 255."""
    low, high = (extreme.double() for extreme in images.flatten(2).aminmax(dim=2))
    scale = torch.full_like(low, 255) / (high - low)  # `255 / x` would compute 255 * (1 / x)
    levels = torch.arange(256, dtype=torch.float64, device=images.device) * scale[..., None] - (low * scale)[..., None]
    return look_up(images, torch.where((high > low)[..., None], levels.clamp(0, 255), identity(images).double()))


def equalize(images: Tensor) -> Tensor:
    """Equalizes each channel's histogram."""
    n, channels, _, _ = images.shape
    counts = torch.zeros(n, channels, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, images.flatten(2).long(), torch.ones_like(images.flatten(2), dtype=torch.int64))
    highest = images.flatten(2).amax(2).long()[..., None]
    step = (counts.sum(2, keepdim=True) - counts.gather(2, highest)) // 255
    below = counts.cumsum(2) - counts
    table = (step // 2 + below) // step.clamp(min=1)
    return look_up(images, torch.where(step > 0, table.clamp(max=255), identity(images)))


def identity(images: Tensor) -> Tensor:
    return torch.arange(256, device=images.device)


def look_up(images: Tensor, tables: Tensor) -> Tensor:
    """Replaces each level by its entry in the channel's table (n, C, 256)."""
    return tables.to(torch.uint8).gather(2, images.flatten(2).long()).view_as(images)
