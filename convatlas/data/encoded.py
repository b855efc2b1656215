"""Splits whose images are kept encoded (files, members of an archive, rows of a table) and decoded when fetched."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any

import torch
from torch import Tensor

from ..dataset import Windows
from ..preprocess import Preprocess
from .decode import read
from .image import MAX_PIXELS, Content

READING: dict[int, str] = {}  # by thread: what it reads, for who waits for it


class EncodedSplit:
    """What is common to them; a subclass says how many images there are, and gives the content of each."""

    name: str
    labels: Tensor
    classes: tuple[str, ...]
    provenance: dict[str, Any]
    max_pixels: int = MAX_PIXELS  # larger images are refused

    def __len__(self) -> int:
        return len(self.labels)

    def content(self, i: int) -> Content:
        """The content of the image's file. Raises UserError where it cannot be read."""
        raise NotImplementedError

    def where(self, i: int) -> str:
        """What messages call the image: its file."""
        raise NotImplementedError

    def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess, view: Windows | None = None) -> Tensor:
        """The images at `indices` as uint8 (n, C, H, W), in channels_last memory. Raises UserError, naming the file,
        for one that is broken."""
        at = torch.as_tensor(indices, dtype=torch.int64)
        windows = [None] * len(at) if view is None else view.windows(at)
        channels, height, width = preprocess.input
        out = torch.empty(len(at), height, width, channels, dtype=torch.uint8).permute(0, 3, 1, 2)
        for image, i, window in zip(out, at.tolist(), windows, strict=True):
            READING[get_ident()] = self.where(i)
            image.copy_(read(self.content(i), preprocess, window, self.max_pixels))
        return out
