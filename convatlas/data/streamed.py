"""Splits that are not in memory: images are read one at a time, each straight into its slot in the batch."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..preprocess import Preprocess
from .decode.fast import Crop, read_into, read_whole
from .decode.reference import MAX_PIXELS, Content
from .types import Crops

READING: dict[int, str] = {}  # what each thread is reading, for the message when it times out


class StreamedSplit:
    """A split read from storage; a subclass implements `put`, `whole`, `where`, `key`, `sizes` and `stored`."""

    name: str
    labels: Tensor
    classes: tuple[str, ...]
    provenance: dict[str, Any]

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, i: int) -> str:
        """The image's file, as messages name it."""
        raise NotImplementedError

    def key(self, i: int) -> str:
        """The image's name within the data set, independent of where the data set is stored."""
        raise NotImplementedError

    def sizes(self) -> np.ndarray:
        """int64 (N, k): of each image what is known without reading it; the product of a row is its bytes."""
        raise NotImplementedError

    def stored(self, i: int) -> Any:
        """The bytes that are stored of the image: its file, or its pixels (as a buffer)."""
        raise NotImplementedError

    def part(self, indices: Tensor, name: str, provenance: dict[str, Any]) -> StreamedSplit:
        """The images at `indices` as a new split."""
        return StreamedPart(self, indices, name, provenance)

    def put(self, out: np.ndarray, i: int, preprocess: Preprocess, crop: Crop | None) -> None:
        """Writes the image, or its crop, scaled, into `out`, uint8 (H, W, C). Raises UserError, naming the file, if
        it is broken."""
        raise NotImplementedError

    def whole(self, i: int, channels: int) -> Tensor:
        """All of the image, upright, at its own size: uint8 (channels, h, w). Raises UserError as `put` does."""
        raise NotImplementedError

    def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess, crops: Crops | None = None) -> Tensor:
        """The images at `indices` as uint8 (n, C, H, W), in channels_last memory. Raises UserError as `put` does."""
        at = torch.as_tensor(indices, dtype=torch.int64)
        out = room(len(at), preprocess)
        self.fill(out, at, preprocess, crops)
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def fill(self, out: np.ndarray, indices: Tensor, preprocess: Preprocess, crops: Crops | None) -> None:
        """Writes the images at `indices` into `out`, uint8 (n, H, W, C)."""
        boxes = [None] * len(indices) if crops is None else crops.boxes(indices)
        for image, i, crop in zip(out, indices.tolist(), boxes, strict=True):
            READING[get_ident()] = self.where(i)
            self.put(image, i, preprocess, crop)


def room(n: int, preprocess: Preprocess) -> np.ndarray:
    """An uninitialised batch, uint8 (n, H, W, C)."""
    channels, height, width = preprocess.input
    return np.empty((n, height, width, channels), np.uint8)


class EncodedSplit(StreamedSplit):
    """A split of encoded image files; a subclass implements `content`, `where`, `key` and `sizes`."""

    max_pixels: int = MAX_PIXELS  # larger images are rejected

    def content(self, i: int) -> Content:
        """The content of the image's file. Raises UserError if it cannot be read."""
        raise NotImplementedError

    def check(self, i: int) -> None:
        """Raises UserError if the image's file is known to be no longer the one that was found."""

    def stored(self, i: int) -> Content:
        return self.content(i)

    def put(self, out: np.ndarray, i: int, preprocess: Preprocess, crop: Crop | None) -> None:
        read_into(out, self.content(i), preprocess, crop, self.max_pixels)
        self.check(i)  # afterwards: what it is now may be broken as well, which says more

    def whole(self, i: int, channels: int) -> Tensor:
        READING[get_ident()] = self.where(i)
        image = read_whole(self.content(i), channels, self.max_pixels)
        self.check(i)
        return image

    def part(self, indices: Tensor, name: str, provenance: dict[str, Any]) -> EncodedSplit:
        return EncodedPart(self, indices, name, provenance)


class StreamedPart(StreamedSplit):
    """A subset of another split."""

    def __init__(self, of: StreamedSplit, indices: Tensor, name: str, provenance: dict[str, Any]):
        self.of, self.at, self.name, self.provenance = of, indices.tolist(), name, provenance
        self.labels, self.classes = of.labels[indices], of.classes

    def where(self, i: int) -> str:
        return self.of.where(self.at[i])

    def key(self, i: int) -> str:
        return self.of.key(self.at[i])

    def sizes(self) -> np.ndarray:
        return self.of.sizes()[self.at]

    def stored(self, i: int) -> Any:
        return self.of.stored(self.at[i])

    def put(self, out: np.ndarray, i: int, preprocess: Preprocess, crop: Crop | None) -> None:
        self.of.put(out, self.at[i], preprocess, crop)

    def whole(self, i: int, channels: int) -> Tensor:
        return self.of.whole(self.at[i], channels)


class EncodedPart(StreamedPart, EncodedSplit):
    """A subset of an EncodedSplit."""

    of: EncodedSplit

    def __init__(self, of: EncodedSplit, indices: Tensor, name: str, provenance: dict[str, Any]):
        super().__init__(of, indices, name, provenance)
        self.max_pixels = of.max_pixels

    def content(self, i: int) -> Content:
        return self.of.content(self.at[i])

    def check(self, i: int) -> None:
        self.of.check(self.at[i])
