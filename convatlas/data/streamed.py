"""Splits that are not in memory: their images are fetched one by one, each into its place in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..preprocess import Preprocess
from .decode.fast import Window, read_into
from .decode.reference import MAX_PIXELS, Content
from .types import Windows

READING: dict[int, str] = {}  # by thread: what it reads, for who waits for it


class StreamedSplit:
    """What is common to them; a subclass says how an image is put in its place."""

    name: str
    labels: Tensor
    classes: tuple[str, ...]
    provenance: dict[str, Any]

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, i: int) -> str:
        """What messages call the image: its file."""
        raise NotImplementedError

    def key(self, i: int) -> str:
        """What the image is called within the set, wherever the set lies."""
        raise NotImplementedError

    def part(self, indices: Tensor, name: str, provenance: dict[str, Any]) -> StreamedSplit:
        """The images at `indices` as a split of their own."""
        return StreamedPart(self, indices, name, provenance)

    def put(self, out: np.ndarray, i: int, preprocess: Preprocess, window: Window | None) -> None:
        """Writes the image, or the window of it, scaled, into `out`, uint8 (H, W, C). Raises UserError, naming the
        file, for one that is broken."""
        raise NotImplementedError

    def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess, view: Windows | None = None) -> Tensor:
        """The images at `indices` as uint8 (n, C, H, W), in channels_last memory. Raises UserError as `put` does."""
        at = torch.as_tensor(indices, dtype=torch.int64)
        out = room(len(at), preprocess)
        self.fill(out, at, preprocess, view)
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def fill(self, out: np.ndarray, indices: Tensor, preprocess: Preprocess, view: Windows | None) -> None:
        """Writes the images at `indices` into `out`, uint8 (n, H, W, C)."""
        windows = [None] * len(indices) if view is None else view.windows(indices)
        for image, i, window in zip(out, indices.tolist(), windows, strict=True):
            READING[get_ident()] = self.where(i)
            self.put(image, i, preprocess, window)


def room(n: int, preprocess: Preprocess) -> np.ndarray:
    """uint8 (n, H, W, C), to be filled."""
    channels, height, width = preprocess.input
    return np.empty((n, height, width, channels), np.uint8)


class EncodedSplit(StreamedSplit):
    """What is common to them; a subclass says how many images there are, and gives the content of each."""

    max_pixels: int = MAX_PIXELS  # larger images are refused

    def content(self, i: int) -> Content:
        """The content of the image's file. Raises UserError where it cannot be read."""
        raise NotImplementedError

    def put(self, out: np.ndarray, i: int, preprocess: Preprocess, window: Window | None) -> None:
        read_into(out, self.content(i), preprocess, window, self.max_pixels)

    def part(self, indices: Tensor, name: str, provenance: dict[str, Any]) -> EncodedSplit:
        return EncodedPart(self, indices, name, provenance)


class StreamedPart(StreamedSplit):
    """Some images of another split."""

    def __init__(self, of: StreamedSplit, indices: Tensor, name: str, provenance: dict[str, Any]):
        self.of, self.at, self.name, self.provenance = of, indices.tolist(), name, provenance
        self.labels, self.classes = of.labels[indices], of.classes

    def where(self, i: int) -> str:
        return self.of.where(self.at[i])

    def key(self, i: int) -> str:
        return self.of.key(self.at[i])

    def put(self, out: np.ndarray, i: int, preprocess: Preprocess, window: Window | None) -> None:
        self.of.put(out, self.at[i], preprocess, window)


class EncodedPart(StreamedPart, EncodedSplit):
    """Some images of another split, which are kept encoded."""

    of: EncodedSplit

    def __init__(self, of: EncodedSplit, indices: Tensor, name: str, provenance: dict[str, Any]):
        super().__init__(of, indices, name, provenance)
        self.max_pixels = of.max_pixels

    def content(self, i: int) -> Content:
        return self.of.content(self.at[i])
