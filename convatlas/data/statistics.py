"""What is measured on training images: of a set in memory on all of them, of another on a sample."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dataset import MemorySplit, Split, recolour, statistics
from ..preprocess import Preprocess
from .loading import PART, fetched

SAMPLE = 512  # images that statistics are taken of where the set is not in memory
HOW = "of at most 512 training images, evenly spaced, cropped to 224 x 224"


def sample_statistics(split: Split, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`statistics` of the pixels of `sample`."""
    return statistics(sample(split, channels))


def sample(split: Split, channels: int) -> Tensor:
    """All images of a split in memory; of another, at most SAMPLE, evenly spaced, cropped to 224 px: uint8."""
    if isinstance(split, MemorySplit):
        return recolour(split.images, channels)
    at = torch.linspace(0, len(split) - 1, min(SAMPLE, len(split))).round().long()
    plain = Preprocess((channels, 224, 224), (0.0,) * channels, (1.0,) * channels, fit="crop", resize=256)
    return torch.cat(list(fetched(split, at.split(PART), plain)))
