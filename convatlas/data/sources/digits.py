"""The embedded data set: 1,797 handwritten digits of 8x8 pixels that come with scikit-learn.

Alpaydin and Kaynak (1998), https://archive.ics.uci.edu/dataset/80: the test part of the UCI set.
"""

from __future__ import annotations

import torch

from ..types import Data
from .memory import memory_data

STRIDE = 5  # every fifth image of each class is a test image


def load(*, seed: int = 0, val: float = 0.0) -> Data:
    """The digits, with a fixed split: 1,442 for training and 355 for testing, stratified by class."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy((bunch.images * (255 / 16)).round()).to(torch.uint8)[:, None]  # 0..16 -> 0..255
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    test = torch.zeros(len(labels), dtype=torch.bool)
    for c in range(10):
        test[(labels == c).nonzero()[STRIDE - 1 :: STRIDE]] = True
    splits = {"train": (images[~test], labels[~test]), "test": (images[test], labels[test])}
    source = {"source": "scikit-learn load_digits"}
    return memory_data("digits", splits, tuple("0123456789"), source, resize_mode="stretch", val=val, seed=seed)
