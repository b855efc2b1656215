"""Data sets in memory, two tensors per split, with their counts."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...preprocess import ResizeMode
from ..statistics import statistics
from ..types import Data, MemorySplit
from .labels import val_from_train


def memory_data(
    name: str,
    tensors: dict[str, tuple[Tensor, Tensor]],  # "train" and "test": uint8 images (N, C, H, W), int64 labels (N,)
    classes: tuple[str, ...],
    provenance: dict[str, Any],
    *,
    resize_mode: ResizeMode,
    val: float = 0.0,
    seed: int = 0,
) -> Data:
    """A data set in memory, with its statistics, and counts."""
    splits = {}
    for split, (images, labels) in tensors.items():
        about = {**provenance, "images": len(images)}
        splits[split] = MemorySplit(split, images, labels, classes, about)
    parts = val_from_train(splits, val, seed)
    train = parts["train"]
    assert isinstance(train, MemorySplit)
    _, c, h, w = train.images.shape
    return Data(name, train, parts.get("val"), parts.get("test"), (c, h, w), *statistics(train.images), resize_mode)
