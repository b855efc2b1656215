"""Pixel statistics of the training images: of all of them in memory, otherwise of a sample."""

from __future__ import annotations

import torch
from torch import Tensor

from ..preprocess import Preprocess
from .loading import PART, fetched
from .pixels import recolour
from .types import MemorySplit, Split

SAMPLE = 512  # images in the sample, unless the data set is in memory
HOW = "of at most 512 training images, evenly spaced, cropped to 224 x 224"


def sample_statistics(split: Split, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`statistics` of the pixels of `sample`."""
    return statistics(sample(split, channels))


def sample(split: Split, channels: int) -> Tensor:
    """All images of a split in memory; otherwise at most SAMPLE, evenly spaced, cropped to 224 px: uint8."""
    if isinstance(split, MemorySplit):
        return recolour(split.images, channels)
    at = torch.linspace(0, len(split) - 1, min(SAMPLE, len(split))).round().long()
    plain = Preprocess((channels, 224, 224), (0.0,) * channels, (1.0,) * channels, resize_mode="crop", resize=256)
    return torch.cat(list(fetched(split, at.split(PART), plain)))


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 images (n, C, H, W), in [0, 1]: exact, from histograms."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten().cpu(), minlength=256).double() / channel.numel()
        mean = (share * levels).sum()
        means.append(mean.item())
        stds.append(max((share * (levels - mean).square()).sum().sqrt().item(), 1 / 255))  # flat colours: not 0
    return tuple(means), tuple(stds)


def principal_axes(images: Tensor) -> Tensor:
    """The principal axes of the colours of uint8 images (n, C, H, W), longest first, as rows: float64 (C, C).

    Each row's norm is the pixels' standard deviation along it, in levels; its largest entry is positive.
    """
    channels = images.shape[1]
    total, products = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, channels, dtype=torch.float64)
    for part in images.split(1000):
        colours = part.transpose(0, 1).flatten(1).double()
        total += colours.sum(1)
        products += colours @ colours.T
    pixels = images.numel() / channels
    mean = total / pixels
    values, vectors = torch.linalg.eigh(products / pixels - mean[:, None] * mean)
    axes = (vectors * values.clamp(min=0).sqrt()).T.flip(0)
    return axes * torch.where(axes.gather(1, axes.abs().argmax(1, keepdim=True)) < 0, -1.0, 1.0)
